"""Whatever is put in, there is an answer that says what to do; nothing hangs, no data is lost, and
the others continue."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from perdure import activity, workflow
from perdure.client import Client, Handle
from perdure.embedded import Platform
from perdure.errors import (
    Failure,
    PayloadError,
    QueryFailed,
    RequestRefused,
    UsageError,
    WorkflowFailed,
    WorkflowNotFound,
)
from perdure.model.states import Status
from perdure.registry import Registry

LARGE = "x" * (2 << 20)
WITHIN_S = 10.0


class Declined(Failure):
    """A class of user code."""


@activity.defn(retry=activity.Retry(first_interval="10ms", maximum_attempts=3))
async def echo(text: str) -> str:
    return text


@activity.defn(retry=activity.Retry(first_interval="10ms", maximum_attempts=3))
async def gives(what: str) -> Any:
    return LARGE if what == "large" else object()


@activity.defn(retry=activity.Retry(first_interval="10ms", maximum_attempts=2))
async def beats_large() -> list[Any]:
    activity.heartbeat(LARGE)
    return list(activity.last_heartbeat())


@activity.defn(retry=activity.Retry(maximum_attempts=1))
async def complains_at_length() -> None:
    raise ValueError(LARGE)


@workflow.defn
class Bad:
    def __init__(self) -> None:
        self.shown: Any = "nothing yet"
        self.texts: list[str] = []
        self.is_done = False

    @workflow.run
    async def main(self, what: str) -> Any:
        wrong: Any = 3
        match what:
            case "wrong argument":
                return await echo(wrong)
            case "too many arguments":
                return await echo("a", wrong)  # type: ignore[call-arg]
            case "large argument":
                return await echo(LARGE)
            case "large activity result":
                return await gives("large")
            case "activity result without JSON":
                return await gives("object")
            case "large heartbeat":
                return await beats_large()
            case "large failure":
                await complains_at_length()
            case "large result":
                return LARGE
            case "result without JSON":
                return object()
            case "large exception":
                raise ValueError(LARGE)
            case "large fields":
                raise Declined(LARGE)
            case _:
                pass
        await workflow.wait_until(lambda: self.is_done)
        return "done"

    @workflow.signal
    def say(self, text: str) -> None:
        self.texts.append(text)

    @workflow.signal
    def show(self, kind: str) -> None:
        self.shown = {"large": LARGE, "object": object()}.get(kind, kind)

    @workflow.signal
    def stumble(self) -> None:
        raise RuntimeError("the handler fell")

    @workflow.signal
    def end(self) -> None:
        self.is_done = True

    @workflow.query
    def told(self, prefix: str = "") -> list[str]:
        return [prefix + text for text in self.texts]

    @workflow.query
    def raises(self) -> int:
        raise KeyError("no such thing")

    @workflow.query
    def large(self) -> str:
        return LARGE

    @workflow.query
    def without_json(self) -> Any:
        return object()

    @workflow.view
    def view(self) -> Any:
        return self.shown


REGISTRY = Registry.of([Bad], [echo, gives, beats_large, complains_at_length], [])


@dataclass
class Place:
    """A platform that serves `Bad`, and how to reach it."""

    platform: Platform
    url: str
    is_near: bool

    def run(self, program: Callable[[Client], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            async with (
                asyncio.timeout(WITHIN_S),
                self.platform.client() if self.is_near else Client.connect(self.url) as client,
            ):
                await program(client)
                alive = await client.start("running the others", Bad.main, "wait")
                await alive.signal(Bad.end)
                assert await alive.result() == "done"

        asyncio.run(main())


@pytest.fixture(params=["same process", "through the file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """With a client of the same process, and with one that only has the file, as those of other
    processes."""
    url = f"sqlite:///{tmp_path}/app.db"
    with Platform(REGISTRY, url) as platform:
        yield Place(platform, url, request.param == "same process")


async def cause_of(handle: Handle[Any, Any]) -> BaseException:
    with pytest.raises(WorkflowFailed) as caught:
        await handle.result()
    return caught.value.cause


# ---- what is not known


def test_an_unknown_type_is_refused_with_those_that_are_known(place: Place) -> None:
    async def program(client: Client) -> None:
        with pytest.raises(RequestRefused, match="unknown workflow type 'Nothing'; known: Bad"):
            await client.start_by_name("w", "Nothing")
        with pytest.raises(WorkflowNotFound):
            await client.state("w")

    place.run(program)


def test_an_unknown_signal_or_query_is_refused_with_those_that_are_known(place: Place) -> None:
    async def program(client: Client) -> None:
        run = await client.start("w", Bad.main, "wait")
        by_name = client.get_by_name("w")
        with pytest.raises(RequestRefused, match="no signal 'shout'; it has: end, say, show, stumble"):
            await by_name.signal_by_name("shout")
        with pytest.raises(
            (RequestRefused, QueryFailed), match="no query 'age'; it has: large, raises, told, without_json"
        ):
            await by_name.query_by_name("age")
        await run.signal(Bad.end)
        assert await run.result() == "done"

    place.run(program)


def test_every_request_to_a_missing_workflow_says_that_it_is_missing(place: Place) -> None:
    async def program(client: Client) -> None:
        nobody = client.get("nobody", Bad.main)
        requests: list[Callable[[], Coroutine[Any, Any, Any]]] = [
            lambda: nobody.signal(Bad.end),
            lambda: nobody.query(Bad.told),
            lambda: nobody.view(Bad.view),
            nobody.result,
            nobody.cancel,
            nobody.terminate,
            lambda: client.describe("nobody"),
            lambda: client.history("nobody"),
            lambda: client.state("nobody"),
        ]
        for request in requests:
            with pytest.raises(WorkflowNotFound, match="'nobody'"):
                await request()

    place.run(program)


def test_a_run_that_has_ended_takes_no_messages_but_answers(place: Place) -> None:
    async def program(client: Client) -> None:
        run = await client.start("w", Bad.main, "wait")
        await run.signal(Bad.say, "a")
        await run.signal(Bad.end)
        assert await run.result() == "done"
        for request in (run.signal(Bad.say, "b"), run.cancel(), run.terminate()):
            with pytest.raises(WorkflowNotFound, match=r"'w'.*completed"):
                await request
        assert await run.query(Bad.told, "> ") == ["> a"]
        assert await client.get("w", Bad.main).result() == "done"

    place.run(program)


# ---- what does not fit


def test_arguments_that_do_not_fit_are_refused_by_the_engine_too(place: Place) -> None:
    async def program(client: Client) -> None:
        for arguments, said in (
            ([3], "'what' expected str, got int"),
            ([], "what"),
            (["a", "b"], "argument"),
            ([None], "what"),
        ):
            with pytest.raises(RequestRefused, match=rf"workflow 'Bad'.*{said}"):
                await client.start_by_name("w", "Bad", arguments)
        run = await client.start("w", Bad.main, "wait")
        with pytest.raises(RequestRefused, match=r"signal 'say'.*'text' expected str, got int"):
            await client.get_by_name("w").signal_by_name("say", [3])
        with pytest.raises(
            (RequestRefused, QueryFailed), match=r"query 'told'.*'prefix' expected str, got int"
        ):
            await client.get_by_name("w").query_by_name("told", [3])
        assert await run.query(Bad.told) == []

    place.run(program)


def test_arguments_without_json_are_refused_before_anything_is_sent(place: Place) -> None:
    async def program(client: Client) -> None:
        strange: Any = object()
        with pytest.raises(PayloadError, match=r"workflow 'Bad'.*'what'.*object"):
            await client.start("w", Bad.main, strange)
        with pytest.raises(PayloadError, match=r"workflow 'Bad'.*object"):
            await client.start_by_name("w", "Bad", [strange])
        with pytest.raises((PayloadError, UsageError), match="attributes"):
            await client.options(attributes={"a": strange}).start("w", Bad.main, "wait")
        with pytest.raises(PayloadError):
            await client.start("w", Bad.main, "lone \ud800 surrogate")
        with pytest.raises(WorkflowNotFound):
            await client.state("w")

    place.run(program)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("wrong argument", "activity 'echo'.*'text' expected str, got int"),
        ("too many arguments", "activity echo.*too many positional arguments"),
        ("large argument", r"activity 'echo'.*bytes long, the limit is 1048576.*'text'"),
        ("large activity result", "the result of activity 'gives'.*bytes long, the limit is 1048576"),
        ("large heartbeat", "the heartbeat of activity 'beats_large'.*bytes long, the limit is 1048576"),
        ("activity result without JSON", "the result of activity 'gives'.*object"),
        ("large result", "the result of workflow 'Bad'.*bytes long, the limit is 1048576"),
        ("result without JSON", "the result of workflow 'Bad'.*object"),
    ],
)
def test_a_value_in_a_workflow_that_does_not_fit_suspends_the_run_and_names_it(
    place: Place, what: str, said: str
) -> None:
    """Other code, or another value of an activity's next version, cures it: the run is not failed
    for good."""

    async def program(client: Client) -> None:
        await client.start("w", Bad.main, what)
        while (description := await client.describe("w")).status is Status.RUNNING:
            await asyncio.sleep(0.01)
        assert description.status is Status.SUSPENDED
        assert re.search(said, description.reason)

    place.run(program)


def test_exceptions_of_any_length_are_recorded_in_part(place: Place) -> None:
    async def program(client: Client) -> None:
        for what in ("large exception", "large failure", "large fields"):
            handle = await client.start(what, Bad.main, what)
            cause = await cause_of(handle)
            assert "xxx… (2097152 characters)" in str(cause)
            assert len((await client.describe(what)).reason) < 10_000
            assert isinstance(cause, Declined) is (what == "large fields")

    place.run(program)


def test_two_mebibytes_are_refused_wherever_they_come_in(place: Place) -> None:
    async def program(client: Client) -> None:
        limit = "limit is 1048576.*Store large data elsewhere and pass its address"
        with pytest.raises(PayloadError, match=rf"workflow 'Bad'.*{limit}"):
            await client.start("w", Bad.main, LARGE)
        with pytest.raises(PayloadError, match=limit):
            await client.start_by_name("w", "Bad", [LARGE])
        with pytest.raises((PayloadError, RequestRefused), match="attributes"):
            await client.options(attributes={"a": LARGE}).start("w", Bad.main, "wait")
        run = await client.start("w", Bad.main, "wait")
        with pytest.raises(PayloadError, match=rf"signal 'say'.*{limit}"):
            await run.signal(Bad.say, LARGE)
        with pytest.raises(PayloadError, match=rf"query 'told'.*{limit}"):
            await run.query(Bad.told, LARGE)
        with pytest.raises(QueryFailed, match=rf"query 'large'.*{limit}"):
            await run.query(Bad.large)
        for ask in (run.cancel, run.terminate):
            with pytest.raises((PayloadError, RequestRefused), match="reason"):
                await ask(LARGE)
        assert await run.query(Bad.told) == []

    place.run(program)


# ---- what the code of the run does


def test_a_query_that_raises_is_answered_with_the_exception_and_the_run_continues(place: Place) -> None:
    async def program(client: Client) -> None:
        run = await client.start("w", Bad.main, "wait")
        with pytest.raises(QueryFailed, match="no such thing"):
            await run.query(Bad.raises)
        with pytest.raises(QueryFailed, match="the answer of query 'without_json'"):
            await run.query(Bad.without_json)
        await run.signal(Bad.end)
        assert await run.result() == "done"

    place.run(program)


def test_a_handler_that_raises_fails_the_run_with_its_traceback(place: Place) -> None:
    async def program(client: Client) -> None:
        run = await client.start("w", Bad.main, "wait")
        await run.signal(Bad.stumble)
        assert "the handler fell" in str(await cause_of(run))
        (last,) = (await client.history("w"))[-1].events[-1:]
        assert "stumble" in getattr(last, "failure").traceback  # noqa: B009  one event of many

    place.run(program)


@pytest.mark.parametrize(("kind", "said"), [("large", "limit is 1048576"), ("object", "object")])
def test_a_view_that_cannot_be_kept_says_why_and_the_last_one_stays(
    place: Place, kind: str, said: str
) -> None:
    async def program(client: Client) -> None:
        run = await client.start("w", Bad.main, "wait")
        await run.signal(Bad.show, "first")
        await run.signal(Bad.show, kind)
        await run.query(Bad.told)
        assert await run.view(Bad.view) == "first"
        description = await client.describe("w")
        assert "the view" in description.reason
        assert said in description.reason
        await run.signal(Bad.show, "fixed")
        await run.query(Bad.told)
        assert await run.view(Bad.view) == "fixed"
        assert not (await client.describe("w")).reason

    place.run(program)


# ---- ids

BAD_IDS = {
    "": "must not be empty",
    "x" * 300: "is 300 bytes long, the limit is 255",
    "é" * 128: "is 256 bytes long, the limit is 255",
    "nul\0": r"U\+0000",
    "bell\a": r"U\+0007",
    "line\nbreak": r"U\+000A",
    "lone \ud800 surrogate": r"U\+D800|not valid Unicode",
    "right-to-left \u202e": r"U\+202E",
}


@pytest.mark.parametrize("id", list(BAD_IDS), ids=lambda bad: ascii(bad)[:20])
def test_an_invalid_id_is_refused_by_every_route(place: Place, id: str) -> None:
    async def program(client: Client) -> None:
        handle = client.get(id, Bad.main)
        requests: list[Callable[[], Coroutine[Any, Any, Any]]] = [
            lambda: client.start(id, Bad.main, "wait"),
            lambda: client.start_by_name(id, "Bad", ["wait"]),
            lambda: handle.signal(Bad.end),
            lambda: handle.query(Bad.told),
            handle.cancel,
            handle.terminate,
            handle.result,
            lambda: handle.view(Bad.view),
            lambda: client.describe(id),
            lambda: client.state(id),
            lambda: client.history(id),
        ]
        for request in requests:
            with pytest.raises(RequestRefused, match=BAD_IDS[id]):
                await request()

    place.run(program)


def test_an_unusual_id_is_accepted(place: Place) -> None:
    async def program(client: Client) -> None:
        for name in ("🍕", "a b/c?d#e%20", "x" * 255, "é" * 127, "'; DROP TABLE events; --", "-rf"):
            run = await client.start(name, Bad.main, "wait")
            await run.signal(Bad.end)
            assert await run.result() == "done"
            assert (await client.describe(name)).workflow_id == name

    place.run(program)


@pytest.mark.parametrize("request_id", ["", "\0", "x" * 300, "lone \ud800", 3], ids=ascii)
def test_an_invalid_request_id_is_refused(place: Place, request_id: Any) -> None:
    async def program(client: Client) -> None:
        with pytest.raises((RequestRefused, UsageError), match="request id"):
            await client.options(request_id=request_id).start("w", Bad.main, "wait")

    place.run(program)


@pytest.mark.parametrize(
    "options",
    [{"if_running": "maybe"}, {"if_closed": "never"}, {"delay": "soon"}, {"delay": "-1s"}, {"timeout": "0s"}],
)
def test_an_invalid_option_is_refused(place: Place, options: Any) -> None:
    async def program(client: Client) -> None:
        with pytest.raises(UsageError):
            client.options(**options)

    place.run(program)
