"""Whatever a function raises is a failed attempt, immediately: no exception is lost in a future,
and none is taken for the platform's own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from perdure import activity
from perdure.activity import Provider
from perdure.codec.payloads import JsonPayloads
from perdure.errors import UsageError
from perdure.model import commands as cm
from perdure.model.tasks import Task
from perdure.worker import recursion
from perdure.worker.activity_threads import ActivityThreads
from perdure.worker.attempt import Attempts
from perdure.worker.providers import OpenProviders
from perdure.worker.side_loop import SideLoop
from perdure.worker.steps import LocalSteps
from perdure.worker.stopping import stop
from perdure.worker.worker import Worker


class FromBelow(BaseException):
    """A direct subclass."""


class Speechless(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt

    __repr__ = __str__


RAISED: dict[str, Any] = {
    each.__name__ if isinstance(each, type) else type(each).__name__: each
    for each in (
        StopIteration("x"),
        StopAsyncIteration,
        GeneratorExit,
        KeyboardInterrupt,
        SystemExit,
        asyncio.CancelledError,
        asyncio.InvalidStateError,
        concurrent.futures.BrokenExecutor,
        TimeoutError,
        RecursionError,
        FromBelow,
        Speechless,
        BaseExceptionGroup("two", [KeyboardInterrupt(), ValueError()]),
    )
} | {"concurrent CancelledError": concurrent.futures.CancelledError()}


class Raise:
    what: Any = ValueError


@activity.defn(timeout="1h")
def in_thread() -> None:
    raise Raise.what


@activity.defn(timeout="1h")
async def on_loop() -> None:
    raise Raise.what


@activity.defn(timeout="1h")
async def in_background() -> None:
    async def behind() -> None:
        raise Raise.what

    await asyncio.create_task(behind())


@activity.step(timeout="1h")
def step_in_thread() -> None:
    raise Raise.what


@activity.step(timeout="1h")
async def step_in_background() -> None:
    await in_background.fn()


@activity.defn(timeout="1h")
async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.Event().wait()


@activity.defn(timeout="1h")
async def waits() -> None:
    await asyncio.Event().wait()


@activity.defn(timeout="1h")
async def own_timeout() -> None:
    async with asyncio.timeout(0):
        await asyncio.Event().wait()


ACTIVITIES: list[Any] = [
    in_thread,
    on_loop,
    in_background,
    step_in_thread,
    step_in_background,
    cancels_itself,
    waits,
    own_timeout,
]


@pytest.fixture
def side() -> Iterator[SideLoop]:
    side = SideLoop("test-side")
    side.start()
    yield side
    assert side.is_running, "the loop continues, whatever was raised"
    side.stop()


def attempt_of(name: str, side: SideLoop) -> Any:
    attempts = Attempts(
        {each.name: each for each in ACTIVITIES}, JsonPayloads(), ActivityThreads(4), instances={}
    )
    reports: SimpleQueue[Any] = SimpleQueue()
    is_step = name.startswith("step")
    task = Task("w", "run", 1, 1, "token", name, "" if is_step else "default", b"[]", 3_600_000_000, "key", 0)
    if is_step:
        LocalSteps(side.loop, attempts, reports.put).start([task])
    else:
        side.loop.call_soon_threadsafe(Worker("test", attempts, reports.put).deliver, [task])
    (report,) = reports.get(timeout=60)
    return report


@pytest.mark.parametrize(
    "name", ["in_thread", "on_loop", "in_background", "step_in_thread", "step_in_background"]
)
@pytest.mark.parametrize("what", RAISED.values(), ids=RAISED)
def test_an_exception_of_any_kind_fails_the_attempt_immediately(side: SideLoop, name: str, what: Any) -> None:
    Raise.what = what
    report = attempt_of(name, side)
    assert isinstance(report, cm.FailActivity)
    assert not report.timed_out, "an author's own TimeoutError is not the attempt's timeout"
    kind = what if isinstance(what, type) else type(what)
    if name == "in_thread":
        assert report.failure.type.endswith(f":{kind.__qualname__}"), (
            "as itself, not as what a future makes of it"
        )


def test_a_timeout_within_the_function_is_not_that_of_the_attempt(side: SideLoop) -> None:
    report = attempt_of("own_timeout", side)
    assert (report.timed_out, report.failure.type) == (False, "builtins:TimeoutError")


def test_a_function_that_cancels_itself_has_failed(side: SideLoop) -> None:
    report = attempt_of("cancels_itself", side)
    assert isinstance(report, cm.FailActivity)
    assert "CancelledError" in report.failure.type


def test_an_attempt_that_the_platform_stops_leaves_no_report(side: SideLoop) -> None:
    attempts = Attempts({"waits": waits}, JsonPayloads(), ActivityThreads(4), instances={})
    task = Task("w", "run", 1, 1, "token", "waits", "default", b"[]", 3_600_000_000, "key", 0)

    def heartbeat(*_: object) -> None:
        """A heartbeat that is ignored."""

    async def main() -> str:
        running = asyncio.create_task(attempts.run(task, heartbeat, lambda: None))
        await asyncio.sleep(0)
        stop(running, "the workflow no longer waits for it")
        try:
            await running
        except asyncio.CancelledError:
            return "cancelled"
        return "reported"

    assert side.call(main(), 60) == "cancelled"


@pytest.mark.parametrize("what", [KeyboardInterrupt, SystemExit])
def test_an_unawaited_callback_does_not_end_the_loop(side: SideLoop, what: type[BaseException]) -> None:
    gone = threading.Event()

    def raises() -> None:
        gone.set()
        raise what

    async def others() -> str:
        await asyncio.sleep(0)
        return "go on"

    side.loop.call_soon_threadsafe(raises)
    assert gone.wait(30)
    assert side.call(others(), 60) == "go on"


class Tool:
    """Is provided."""


@pytest.mark.parametrize("what", [KeyboardInterrupt, SystemExit, FromBelow, Speechless])
def test_a_provider_that_raises_says_so(side: SideLoop, what: Any) -> None:
    async def provide() -> AsyncIterator[Tool]:
        if what is not None:
            raise what
        yield Tool()

    provided = OpenProviders({Tool: Provider(provide)})
    with pytest.raises((UsageError, Speechless)) as caught:
        side.call(provided.open(), 60)
    if what is not Speechless:
        assert what.__name__ in str(caught.value)


def test_a_provider_that_yields_nothing_says_so(side: SideLoop) -> None:
    async def provide() -> AsyncIterator[Tool]:
        if Raise.what is None:
            yield Tool()

    provided = OpenProviders({Tool: Provider(provide)})
    with pytest.raises(UsageError, match=r"Tool.*yields nothing"):
        side.call(provided.open(), 60)


@activity.defn(timeout="1h")
async def lowers_limit() -> None:
    sys.setrecursionlimit(sys.getrecursionlimit() - 1)


@activity.defn(timeout="1h")
def lowers_limit_in_thread() -> None:
    sys.setrecursionlimit(sys.getrecursionlimit() - 1)


@activity.defn(name="step_lowers_limit", timeout="1h")
async def step_lowers_limit() -> None:
    sys.setrecursionlimit(sys.getrecursionlimit() - 1)


ACTIVITIES.extend([lowers_limit, lowers_limit_in_thread, step_lowers_limit])


@pytest.mark.parametrize("name", ["lowers_limit", "lowers_limit_in_thread", "step_lowers_limit"])
def test_the_recursion_limit_of_the_process_is_restored(
    side: SideLoop, name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sys.getrecursionlimit()
    monkeypatch.setattr(recursion, "_LIMIT", before)
    try:
        assert isinstance(attempt_of(name, side), cm.CompleteActivity)
        assert sys.getrecursionlimit() == before
    finally:
        sys.setrecursionlimit(before)
    assert name in caplog.text
