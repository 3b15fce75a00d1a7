"""Interceptors wrap the four seams, from the outside in, and one that raises stops nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace as changed
from typing import Any, Final

import pytest
from msgspec.structs import replace

from perdure import activity, errors, interceptor, testing, workflow
from perdure.interceptor import Interceptor, Outbound, WorkflowCall
from perdure.model import commands as cm
from perdure.model.replies import Accepted
from perdure.model.runtime import WorkflowRuntime
from perdure.registry import Registry

Report = cm.AttemptReport
SEND: Final = cm.SignalWorkflow("w", name="s")


@activity.defn(name="intercepted_greet")
async def greet(name: str) -> str:
    return f"hello {name}"


@workflow.defn
class Greeting:
    def __init__(self) -> None:
        self.names: list[str] = []

    @workflow.run
    async def main(self, name: str) -> str:
        await workflow.wait_until(lambda: self.names)
        return await greet(name) + await greet(self.names[0])

    @workflow.signal
    async def add(self, name: str) -> None:
        self.names.append(name)


class Recorder(Interceptor):
    """Notes what passes, and lets it through."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name = name
        self.notes = notes

    async def request(self, command: cm.Request, send: Callable[[cm.Request], Awaitable[Any]]) -> Any:
        self.notes.append(f"{self.name} request {type(command).__name__}")
        return await send(command)

    def handle(self, command: cm.AnyCommand, handle: Callable[[cm.AnyCommand], None]) -> None:
        self.notes.append(f"{self.name} handle {type(command).__name__}")
        handle(command)

    async def workflow(self, call: WorkflowCall, proceed: Callable[[WorkflowCall], Awaitable[Any]]) -> Any:
        self.notes.append(f"{self.name} {call.kind} {call.name} {call.args}")
        return await proceed(call)

    async def attempt(self, task: Any, run: Callable[[Any], Awaitable[Report]]) -> Report:
        self.notes.append(f"{self.name} attempt {task.name}")
        return await run(task)


def run(*interceptors: Interceptor, restarts: bool = False) -> str:
    async def drive() -> str:
        async with testing.Environment(Registry.of([Greeting], [greet]), interceptors=interceptors) as env:
            handle = await env.client.start("g-1", Greeting.main, "Ada")
            if restarts:
                await env.restart()
            with contextlib.suppress(errors.WorkflowNotFound):  # it has failed already
                await handle.signal(Greeting.add, "Bob")
            return await handle.result()

    return asyncio.run(drive())


def test_a_run_passes_every_seam_from_the_first_interceptor_to_the_last() -> None:
    notes: list[str] = []
    assert run(Recorder("outer", notes), Recorder("inner", notes)) == "hello Adahello Bob"
    assert notes[0::2] == [note.replace("inner", "outer") for note in notes[1::2]]
    inner = [note.removeprefix("inner ") for note in notes[1::2]]
    for seen in (
        "request StartWorkflow",
        "request SignalWorkflow",
        "request AwaitWorkflow",
        "handle StartWorkflow",
        "handle CompleteActivity",
        "run Greeting ('Ada',)",
        "signal add ('Bob',)",
        "attempt intercepted_greet",
    ):
        assert seen in inner
    assert inner.count("attempt intercepted_greet") == 2


class Louder(Interceptor):
    """Changes what passes at the workflow's seams."""

    async def workflow(self, call: WorkflowCall, proceed: Callable[[WorkflowCall], Awaitable[Any]]) -> Any:
        result = await proceed(changed(call, args=(call.args[0].upper(),)))
        return f"{result}!" if call.kind == "run" else result

    def outbound(self, runtime: WorkflowRuntime) -> WorkflowRuntime:
        return _Twice(runtime)


class _Twice(Outbound):
    def schedule_activity(self, activity: Any, args: tuple[Any, ...], kwargs: Any, options: Any) -> Any:
        return super().schedule_activity(activity, (f"{args[0]} {args[0]}",), kwargs, options)


@pytest.mark.parametrize("restarts", [False, True])
def test_arguments_and_results_of_workflow_code_can_be_changed_also_on_replay(restarts: bool) -> None:
    assert run(Louder(), restarts=restarts) == "hello ADA ADAhello BOB BOB!"


def test_what_workflow_code_asks_passes_an_outbound_of_every_kind() -> None:
    assert {name for name in vars(WorkflowRuntime) if not name.startswith("__")} - {"records"} <= set(
        vars(Outbound)
    )


class Raising(Interceptor):
    """Raises at the seams that are guarded, before or after what it wraps."""

    def __init__(self, *, after: bool) -> None:
        self.after = after
        self.count = 0

    async def request(self, command: cm.Request, send: Callable[[cm.Request], Awaitable[Any]]) -> Any:
        if self.after:
            await send(command)
        self._fail()

    def handle(self, command: cm.AnyCommand, handle: Callable[[cm.AnyCommand], None]) -> None:
        if self.after:
            handle(command)
        self._fail()

    async def attempt(self, task: Any, run: Callable[[Any], Awaitable[Report]]) -> Report:
        if self.after:
            await run(task)
        self._fail()
        raise AssertionError

    def _fail(self) -> None:
        self.count += 1
        raise (SystemExit("bye") if self.count % 2 else ZeroDivisionError("oops"))


@pytest.mark.parametrize("after", [False, True])
def test_an_interceptor_that_raises_stops_neither_the_run_nor_the_others(
    after: bool, caplog: pytest.LogCaptureFixture
) -> None:
    notes: list[str] = []
    raising = Raising(after=after)
    with caplog.at_level(logging.WARNING, "perdure.interceptor"):
        assert run(Recorder("outer", notes), raising, Recorder("inner", notes)) == "hello Adahello Bob"
    assert raising.count > 6
    assert (
        notes.count("outer attempt intercepted_greet") == notes.count("inner attempt intercepted_greet") == 2
    )
    said = [record.getMessage() for record in caplog.records if record.name == "perdure.interceptor"]
    assert said
    assert len(said) < raising.count, "not every exception is logged"
    assert all("interceptor Raising raised in" in line and "without it" in line for line in said)


class Failing(Interceptor):
    async def workflow(self, call: WorkflowCall, proceed: Callable[[WorkflowCall], Awaitable[Any]]) -> Any:
        if call.args == ("Ada",):
            raise LookupError("no Ada")
        return await proceed(call)


class Broken(Interceptor):
    def outbound(self, runtime: WorkflowRuntime) -> WorkflowRuntime:
        raise LookupError("no Ada")


@pytest.mark.parametrize("failing", [Failing(), Broken()])
def test_an_interceptor_that_raises_in_workflow_code_fails_the_run(failing: Interceptor) -> None:
    with pytest.raises(errors.WorkflowFailed, match="no Ada"):
        run(failing)


class Refusing(Interceptor):
    async def request(self, command: cm.Request, send: Callable[[cm.Request], Awaitable[Any]]) -> Any:
        raise errors.RequestRefused("not today")


def test_a_client_interceptor_can_refuse_a_request() -> None:
    with pytest.raises(errors.RequestRefused, match="not today"):
        run(Refusing())


# ---- the guard


def handled(method: Callable[[Any, Any], None], handle: Callable[[Any], None]) -> None:
    class Once(Interceptor):
        def handle(self, command: cm.AnyCommand, handle: Callable[[cm.AnyCommand], None]) -> None:
            method(command, handle)

    interceptor.around_handle([Once()], handle)(SEND)


def test_a_command_is_handled_once_whatever_the_interceptor_does() -> None:
    def twice(command: Any, handle: Any) -> None:
        handle(command)
        handle(command)

    def never(command: Any, handle: Any) -> None:
        pass

    for method in (twice, never):
        seen: list[cm.AnyCommand] = []
        handled(method, seen.append)
        assert seen == [SEND]


def test_an_exception_of_the_engine_cannot_be_hidden_or_replaced() -> None:
    error = ValueError("the engine's own")

    def engine(_: Any) -> None:
        raise error

    def hides(command: Any, handle: Any) -> None:
        with contextlib.suppress(ValueError):
            handle(command)

    def replaces(command: Any, handle: Any) -> None:
        try:
            handle(command)
        except ValueError:
            raise KeyError from None

    def passes(command: Any, handle: Any) -> None:
        handle(command)

    for method in (hides, replaces, passes):
        with pytest.raises(ValueError, match="own") as raised:
            handled(method, engine)
        assert raised.value is error


class _Renaming(Interceptor):
    async def request(self, command: cm.Request, send: Callable[[cm.Request], Awaitable[Any]]) -> Any:
        reply = await send(replace(command, workflow_id="other"))
        return replace(reply, run_id="changed")


class _Forgetting(Interceptor):
    """Does not return what it got."""

    async def request(self, command: cm.Request, send: Callable[[cm.Request], Awaitable[Any]]) -> Any:
        await send(command)


def test_a_request_and_its_answer_can_be_changed_and_a_forgotten_answer_is_kept() -> None:
    sent: list[cm.Request] = []

    async def send(command: cm.Request) -> Accepted:
        sent.append(command)
        return Accepted("", "run-1")

    reply: Any = asyncio.run(interceptor.around_request([_Renaming(), _Forgetting()], send)(SEND))  # type: ignore[arg-type]
    assert [each.workflow_id for each in sent] == ["other"]
    assert reply == Accepted("", "changed")
    assert asyncio.run(interceptor.around_request([_Forgetting()], send)(SEND)) == Accepted("", "run-1")  # type: ignore[arg-type]


class _Waiting(Interceptor):
    async def attempt(self, task: Any, run: Callable[[Any], Awaitable[Report]]) -> Report:
        await asyncio.Event().wait()
        return await run(task)


def test_an_attempt_that_waits_in_an_interceptor_can_be_cancelled() -> None:
    async def drive() -> None:
        async def never(_: Any) -> Report:
            raise AssertionError

        waiting = asyncio.ensure_future(interceptor.around_attempt([_Waiting()], never)(None))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(drive())


# ---- of the whole process


@pytest.fixture
def installed() -> Iterator[Recorder]:
    recorder = Recorder("process", [])
    interceptor.install(recorder)
    yield recorder
    interceptor.remove(recorder)


def test_those_of_the_process_are_the_outermost(installed: Recorder) -> None:
    own = Recorder("own", installed.notes)
    assert interceptor.at("handle", [own]) == (installed, own)
    assert run(own) == "hello Adahello Bob"
    assert installed.notes[:2] == ["process request StartWorkflow", "own request StartWorkflow"]


def test_an_interceptor_stands_only_at_the_seams_that_it_overrides() -> None:
    assert interceptor.at("handle", [Failing(), Refusing()]) == ()
    assert interceptor.at("request", ()) == ()
    refusing = Refusing()
    assert interceptor.at("request", [Failing(), refusing]) == (refusing,)


class Hostile(Interceptor):
    """Does something hostile around an attempt."""

    def __init__(self, what: str) -> None:
        self.what = what

    async def attempt(self, task: Any, run: Callable[[Any], Awaitable[Any]]) -> Any:
        match self.what:
            case "leaves it running":
                with contextlib.suppress(TimeoutError):
                    return await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(run(task))), 0)
                return None
            case "returns a number":
                await run(task)
                return 42
            case "raises a cancellation":
                raise asyncio.CancelledError
            case _:
                raise AssertionError(self.what)


@pytest.mark.parametrize(
    "what",
    ["leaves it running", "returns a number", "raises a cancellation"],
)
def test_the_outcome_of_an_attempt_counts_whatever_its_interceptor_returns(what: str) -> None:
    task: Any = None

    async def attempts() -> Any:
        async def run(task: Any) -> Any:
            await asyncio.sleep(0)
            return cm.CompleteActivity("w", number=1, token="t", result=b'"done"')

        return await interceptor.around_attempt([Hostile(what)], run)(task)

    report = asyncio.run(asyncio.wait_for(attempts(), 10))
    assert report.result == b'"done"'


def test_a_time_limit_of_a_client_interceptor_is_a_time_limit() -> None:
    class Limited(Interceptor):
        async def request(self, command: cm.Request, send: Callable[[cm.Request], Awaitable[Any]]) -> Any:
            async with asyncio.timeout(0):
                return await send(command)

    async def never(command: cm.Request) -> Any:
        await asyncio.Event().wait()

    async def ask() -> None:
        await interceptor.around_request([Limited()], never)(SEND)

    with pytest.raises(TimeoutError):
        asyncio.run(ask())


def test_an_engine_interceptor_that_passes_on_something_else_is_left_out() -> None:
    class Wrong(Interceptor):
        def handle(self, command: cm.AnyCommand, handle: Callable[[Any], None]) -> None:
            handle(None)

    handled: list[cm.AnyCommand] = []
    with pytest.raises(errors.UsageError, match="passed on NoneType"):
        interceptor.around_handle([Wrong()], handled.append)(SEND)
