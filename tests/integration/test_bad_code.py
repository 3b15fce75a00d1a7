"""Code that blocks, leaks, diverges or is not there: its run is suspended or waits, visibly; the
others continue, no data is lost."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pytest

from perdure import activity, workflow
from perdure.client import Client, Description
from perdure.embedded import Platform
from perdure.engine.processor import Settings
from perdure.errors import (
    Cancelled,
    EngineUnavailable,
    QueryFailed,
    RequestRefused,
    UpdateRejected,
    WorkflowFailed,
)
from perdure.registry import Registry

WITHIN_S = 15.0
is_fixed = False


@activity.defn
async def there() -> str:
    return "there"


@workflow.defn
class Doubtful:
    def __init__(self, what: str) -> None:
        self.what = what
        self.is_told = False
        self.shown: Any = None

    @workflow.run
    async def main(self, what: str) -> str:
        await workflow.wait_until(lambda: self.is_told)
        try:
            if not is_fixed:
                misbehave(what)
            if what == "shows a call without await":
                self.shown = await there() if is_fixed else there()
                await workflow.wait_until(lambda: is_fixed)
        except Exception:
            return "swallowed"
        return object() if what == "returns what has no JSON" and not is_fixed else "done"  # type: ignore[return-value]

    @workflow.signal
    def go(self) -> None:
        self.is_told = True

    @workflow.view
    def seen(self) -> list[Any]:
        return [self.shown]

    @workflow.query
    def is_waiting(self) -> bool:
        return not self.is_told

    @workflow.query
    def blocks(self) -> None:
        while True:
            pass


def misbehave(what: str) -> str:
    match what:
        case "spins in Python":
            while True:
                pass
        case "sleeps":
            time.sleep(3600)
        case "reads the clock":
            datetime.now()
        case "reads a file":
            Path("secret").read_text()
        case "uses a thread":
            asyncio.get_running_loop().call_soon_threadsafe(print)
        case "calls an activity wrongly":
            untyped: Any = there
            untyped("too", "many")
        case "uses a call without await":
            call: Any = there
            return "yes" if call() else "no"
        case "keeps a call without await in a variable":
            held: Any = there()
            return "no" if held is None else "yes"
        case _:
            pass
    return "went on"


@workflow.defn
async def needs_another() -> str:
    return await activity.named("another", returns=str)()


@activity.defn(name="another")
async def another() -> str:
    return "another"


stopped: list[str] = []


@activity.defn
async def runs_long() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        stopped.append("async")


@activity.defn
def runs_long_in_a_thread() -> None:
    try:
        while True:
            activity.heartbeat()
            time.sleep(0.01)
    finally:
        stopped.append("sync")


@workflow.defn
async def waits(kind: str) -> None:
    await (runs_long() if kind == "async" else runs_long_in_a_thread())


@activity.defn(retry=activity.Retry(maximum_attempts=1))
async def counts() -> int:
    attempts.append(activity.info().attempt)
    return 3 if is_fixed else cast("int", "three")


@activity.step
def counts_locally() -> int:
    return 3 if is_fixed else cast("int", "three")


@activity.defn(name="texts")
async def gives_text() -> str:
    return "three"


@activity.defn
async def undo() -> None:
    undone.append("undone")


attempts: list[int] = []
undone: list[str] = []
seen: list[BaseException] = []


@workflow.defn
async def careful(which: str) -> str:
    try:
        async with workflow.saga() as saga:
            saga.compensate(undo)
            match which:
                case "an activity":
                    return f"counted {await counts()}"
                case "a step":
                    return f"counted {await counts_locally()}"
                case _:
                    returns: Any = str if is_fixed else int
                    return f"counted {await activity.named('texts', returns=returns)()}"
    except BaseException as error:
        seen.append(error)
        raise


@dataclass
class Fussy:
    name: str

    def __post_init__(self) -> None:
        if is_fussy:
            raise KeyError("of the author's own type")


is_fussy = False


@workflow.defn
class Fussily:
    def __init__(self, given: Fussy | None) -> None:
        self.heard: list[str] = [] if given is None else [given.name]

    @workflow.run
    async def main(self, given: Fussy | None) -> list[str]:
        await workflow.wait_until(lambda: len(self.heard) > 1)
        return self.heard

    @workflow.signal
    def hear(self, said: Fussy | None) -> None:
        self.heard.append(said.name if said is not None else "nothing")

    @workflow.query
    def count(self) -> int:
        return len(self.heard)


WORKFLOWS = [Doubtful, needs_another, waits, careful, Fussily]
ACTIVITIES: list[activity.Activity[..., Any]] = [
    there, another, runs_long, runs_long_in_a_thread, counts, counts_locally, gives_text, undo,
]  # fmt: skip
LACKING = Registry.of(WORKFLOWS, [there, runs_long, runs_long_in_a_thread], [])
WHOLE = Registry.of(WORKFLOWS, ACTIVITIES, [])
QUICK = Settings(block_limit_s=0.2)


class Said:
    """The reports to the operator."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def __call__(self, message: str, /, **where: str | int) -> None:
        self.messages.append(message)


def serve(
    tmp_path: Path, program: Callable[[Client], Coroutine[Any, Any, None]], registry: Registry = WHOLE
) -> Said:
    async def main(platform: Platform) -> None:
        async with asyncio.timeout(WITHIN_S), platform.client() as client:
            await program(client)

    said = Said()
    with Platform(registry, f"sqlite:///{tmp_path}/app.db", settings=QUICK, report=said) as platform:
        asyncio.run(main(platform))
    return said


async def until(client: Client, id: str, holds: Callable[[Description], bool]) -> Description:
    """The description of a workflow, as soon as a condition holds."""
    while not holds(found := await client.describe(id)):
        await asyncio.sleep(0.01)
    return found


@pytest.mark.parametrize(
    ("what", "advice"),
    [
        ("spins in Python", "put anything that computes or waits for long into an activity"),
        ("sleeps", "workflow.sleep"),
        ("reads the clock", "workflow.now"),
        ("reads a file", "in an activity"),
        ("uses a thread", "in an activity"),
        ("calls an activity wrongly", "too many positional arguments"),
        ("returns what has no JSON", "use a dataclass"),
        ("uses a call without await", "'there' is used as a condition and not awaited"),
        ("keeps a call without await in a variable", "'there' was never awaited"),
        ("shows a call without await", "the view has <the call of the activity 'there', not awaited>"),
    ],
)
def test_a_misbehaving_run_is_suspended_at_the_users_line_and_resumes_with_fixed_code(
    tmp_path: Path, what: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def misbehaves(client: Client) -> None:
        other = await client.start("other", Doubtful.main, "reads the clock")
        run = await client.start("w", Doubtful.main, what)
        assert await run.query(Doubtful.is_waiting)
        await run.signal(Doubtful.go)
        description = await until(client, "w", lambda found: found.status == "suspended")
        assert f"{Path(__file__).name}:" in description.reason
        assert advice in description.reason
        assert [state.workflow_id for state in await client.list(status="suspended")] == ["w"]
        with pytest.raises(QueryFailed, match="is suspended"):
            await run.query(Doubtful.is_waiting)
        assert await other.query(Doubtful.is_waiting), "running the others"

    async def is_fixed_now(client: Client) -> None:
        assert await client.get("w", Doubtful.main).result() == "done"
        assert await client.get("other", Doubtful.main).query(Doubtful.is_waiting)

    said = serve(tmp_path, misbehaves)
    assert any("'w' suspended" in message for message in said.messages), "the operator gets a message"
    monkeypatch.setitem(globals(), "is_fixed", True)
    serve(tmp_path, is_fixed_now)


@pytest.mark.parametrize(
    ("which", "place", "fault"),
    [
        (
            "an activity",
            rf"{Path(__file__).name}:\d+: ",
            "the result of activity 'counts' expected int, got str",
        ),
        (
            "a step",
            rf"{Path(__file__).name}:\d+: ",
            "the result of activity 'counts_locally' expected int, got str",
        ),
        ("one known by name", "", "the result of activity 'texts' expected int, got str"),
    ],
)
def test_a_result_of_another_type_suspends_the_run_until_the_code_is_fixed(
    tmp_path: Path, which: str, place: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for witnesses in (attempts, undone, seen):
        witnesses.clear()

    async def is_wrong(client: Client) -> None:
        await client.start("w", careful, which)
        description = await until(client, "w", lambda found: found.status == "suspended")
        assert re.search(f"{place}{fault}", description.reason)

    async def is_fixed_now(client: Client) -> None:
        assert (await client.get("w", careful).result()).startswith(
            "counted three" if not place else "counted 3"
        )

    serve(tmp_path, is_wrong)
    assert attempts == ([1] if which == "an activity" else [])
    monkeypatch.setitem(globals(), "is_fixed", True)
    serve(tmp_path, is_fixed_now)
    assert (undone, seen) == ([], []), "no code of the run has seen the mistake"
    assert attempts == ([1, 2] if which == "an activity" else [])


@pytest.mark.parametrize("where", ["input", "signal"])
def test_a_recorded_value_that_its_type_refuses_suspends_the_run_until_the_type_is_fixed(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def is_recorded(client: Client) -> None:
        run = await client.start("w", Fussily.main, Fussy("a") if where == "input" else None)
        if where == "signal":
            await run.signal(Fussily.hear, Fussy("b"))
        assert await run.query(Fussily.count) == 1

    async def is_refused(client: Client) -> None:
        description = await until(client, "w", lambda found: found.status == "suspended")
        assert re.search(rf"{Path(__file__).name}:\d+: .*Fussily|hear.*KeyError", description.reason)

    async def clear_wait(client: Client) -> None:
        run = client.get("w", Fussily.main)
        await run.signal(Fussily.hear, None)
        assert await run.result() == ["a", "nothing"] if where == "input" else ["b", "nothing"]

    serve(tmp_path, is_recorded)
    monkeypatch.setitem(globals(), "is_fussy", True)
    serve(tmp_path, is_refused)
    monkeypatch.setitem(globals(), "is_fussy", False)
    serve(tmp_path, clear_wait)


def test_a_query_that_blocks_is_interrupted_and_its_run_lives(tmp_path: Path) -> None:
    async def program(client: Client) -> None:
        run = await client.start("w", Doubtful.main, "nothing")
        with pytest.raises(QueryFailed, match=f"query 'blocks'.*{Path(__file__).name}:"):
            await run.query(Doubtful.blocks)
        assert await run.query(Doubtful.is_waiting)

    serve(tmp_path, program)


def test_an_activity_without_a_worker_waits_and_runs_after_a_restart_that_has_it(
    tmp_path: Path,
) -> None:
    async def nobody(client: Client) -> None:
        await client.start("w", needs_another)
        description = await until(
            client, "w", lambda found: bool(found.activities and found.activities[0].reason)
        )
        (waiting,) = description.activities
        assert (waiting.name, waiting.doing) == ("another", "waiting for a worker")
        assert "has no activity 'another'; it has: runs_long, runs_long_in_a_thread, there" in waiting.reason

    async def somebody(client: Client) -> None:
        assert await client.get("w", needs_another).result() == "another"

    serve(tmp_path, nobody, LACKING)
    serve(tmp_path, somebody, WHOLE)


def test_a_type_that_is_gone_suspends_its_runs_until_it_is_back(tmp_path: Path) -> None:
    async def begins(client: Client) -> None:
        await client.start("w", Doubtful.main, "nothing")

    async def is_gone(client: Client) -> None:
        await client.get("w", Doubtful.main).signal(Doubtful.go)  # is taken, though nobody can handle it now
        description = await until(client, "w", lambda found: found.status == "suspended")
        assert "'Doubtful'" in description.reason

    async def is_back(client: Client) -> None:
        assert await client.get("w", Doubtful.main).result() == "done"

    serve(tmp_path, begins)
    serve(tmp_path, is_gone, Registry.of([needs_another], [another], []))
    serve(tmp_path, is_back)


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_cancelling_a_run_stops_the_activity_it_waits_for(tmp_path: Path, kind: str) -> None:
    stopped.clear()

    async def program(client: Client) -> None:
        run = await client.start("w", waits, kind)
        await until(client, "w", lambda found: bool(found.activities))
        # the attempt may not have begun yet: a task that is cancelled in the queue never runs
        while not stopped:
            if (await client.state("w")).status == "running":
                await asyncio.sleep(0.1)
                await run.cancel("enough")
            await asyncio.sleep(0.01)
        with pytest.raises(WorkflowFailed) as caught:
            await run.result()
        assert isinstance(caught.value.cause, Cancelled)
        assert stopped == [kind]

    serve(tmp_path, program)


def test_a_platform_that_has_stopped_says_so(tmp_path: Path) -> None:
    with Platform(WHOLE, f"sqlite:///{tmp_path}/app.db") as platform:
        pass

    async def main() -> None:
        async with platform.client() as client:
            with pytest.raises(EngineUnavailable, match="has stopped"):
                await client.start("w", waits, "async")

    asyncio.run(main())


# ---- types and readers that hold the engine up, or change what they read


@dataclass
class Slow:
    """Never ends to check itself."""

    kind: str

    def __post_init__(self) -> None:
        while self.kind == "spins":
            pass


class Unspeakable(Exception):
    def __str__(self) -> str:
        while not is_fixed:
            pass
        return "fixed"


@workflow.defn
class Reader:
    def __init__(self, given: Slow | None) -> None:
        self.items: list[str] = []
        self.is_done = False
        self.text = ""

    @workflow.run
    async def main(self, given: Slow | None) -> str:
        token = workflow.token(Slow)
        self.text = token.text
        await workflow.wait_until(lambda: self.is_done)
        return "done"

    @workflow.signal
    def end(self) -> None:
        self.is_done = True

    @workflow.signal
    def hear(self, said: Slow) -> None:
        pass

    @workflow.update
    def change(self, said: Slow) -> None:
        pass

    @workflow.query
    def ask(self, said: Slow) -> None:
        pass

    @workflow.query
    def token(self) -> str:
        return self.text

    @workflow.query
    def raises(self) -> None:
        raise Unspeakable

    @workflow.query
    def adds(self) -> int:
        self.items.append("x")
        return len(self.items)

    @workflow.query
    def count(self) -> int:
        return len(self.items)

    @workflow.update
    def checked(self, how: str) -> str:
        return "accepted"

    @checked.validator
    def _check(self, how: str) -> None:
        if how == "changes":
            self.is_done = True
        if how == "changes and rejects":
            self.is_done = True
            raise ValueError("no")
        if how == "raises what cannot be read":
            raise Unspeakable


READERS = Registry.of([Reader, Doubtful], [], [])


@pytest.mark.parametrize("door", ["start", "signal", "update", "query", "token", "exception", "rejection"])
def test_a_value_whose_check_never_ends_is_refused_and_other_runs_continue(tmp_path: Path, door: str) -> None:
    spins = {"kind": "spins"}

    async def program(client: Client) -> None:
        other = await client.start("other", Doubtful.main, "nothing")
        run = await client.start("w", Reader.main, None)
        text = await run.query(Reader.token)
        asked: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "start": lambda: client.start_by_name("v", "Reader", [spins]),
            "signal": lambda: run.signal_by_name("hear", [spins]),
            "update": lambda: run.update_by_name("change", [spins]),
            "query": lambda: run.query_by_name("ask", [spins]),
            "token": lambda: client.resolve(text, spins),
            "exception": lambda: run.query(Reader.raises),
            "rejection": lambda: run.update(Reader.checked, "raises what cannot be read"),
        }
        refused = RequestRefused, QueryFailed, UpdateRejected
        with pytest.raises(refused, match=f"{Path(__file__).name}:|Unspeakable"):
            await asked[door]()
        assert await other.query(Doubtful.is_waiting)
        await run.signal(Reader.end)
        assert await run.result() == "done", "nothing was recorded"

    serve(tmp_path, program, READERS)


def test_what_a_validator_or_a_query_changes_is_undone_and_refused(tmp_path: Path) -> None:
    async def program(client: Client) -> None:
        run = await client.start("w", Reader.main, None)
        with pytest.raises(UpdateRejected, match=r"has changed self\.is_done"):
            await run.update(Reader.checked, "changes")
        with pytest.raises(UpdateRejected, match="no"):
            await run.update(Reader.checked, "changes and rejects")
        with pytest.raises(QueryFailed, match=r"has changed self\.items"):
            await run.query(Reader.adds)
        assert await run.query(Reader.count) == 0
        assert await run.update(Reader.checked, "reads") == "accepted"
        assert (await client.state("w")).status == "running"
        await run.signal(Reader.end)
        assert await run.result() == "done"

    serve(tmp_path, program, READERS)
