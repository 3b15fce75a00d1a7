"""Mistakes in calls of perdure suspend the run with the author's line, whatever the code catches: a
change of the code cures them."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, cast

import pytest

from perdure import activity, workflow
from perdure.codec.payloads import JsonPayloads
from perdure.errors import UsageError
from perdure.replay import guard
from perdure.replay.loop import RunLoop
from perdure.replay.runtime import RunRuntime


@activity.defn
async def charge(order: str, cents: int = 0) -> str:
    return f"{order} {cents}"


@activity.defn
async def note(*, text: str) -> None: ...


untyped: Any = charge
untyped_note: Any = note
any_workflow: Any = workflow


class Box:
    @activity.defn
    async def keep(self, what: str) -> None: ...


untyped_keep: Any = Box.keep


async def awaited_twice() -> None:
    call: Any = charge("a")
    task = asyncio.ensure_future(call)
    await asyncio.sleep(0)
    task.cancel()
    await call


async def dropped() -> None:
    untyped("a")
    await asyncio.sleep(0)


async def overwritten() -> None:
    call: Any = charge("a")
    call = await asyncio.sleep(0, None)
    del call


async def dropped_together() -> None:
    [untyped(order) for order in ("a", "b")]
    await asyncio.sleep(0)


async def dropped_helper() -> None:
    untyped_helper()
    await asyncio.sleep(0)


async def dropped_sleep() -> None:
    any_workflow.sleep("1s")
    await asyncio.sleep(0)


async def beats() -> None:
    activity.heartbeat("x")


async def helper() -> None: ...


async def compensates_a_class_member() -> None:
    async with workflow.saga() as saga:
        saga.compensate(any_workflow)


untyped_helper: Any = helper

MISTAKES: Final[dict[str, tuple[Callable[[], Coroutine[Any, Any, Any]], str]]] = {
    "too many arguments": (lambda: untyped("a", 1, 2), "charge.*too many positional arguments"),
    "too few arguments": (lambda: untyped(), "charge.*missing a required argument: 'order'"),
    "an unknown keyword": (lambda: untyped("a", dollars=1), "charge.*unexpected keyword argument 'dollars'"),
    "a keyword that is missing": (lambda: untyped_note("text"), "note.*too many positional|note.*missing"),
    "an argument twice": (lambda: untyped("a", order="b"), "multiple values for argument 'order'"),
    "too many arguments to a method": (lambda: untyped_keep("a", "b"), "keep.*too many positional"),
    "an argument without JSON": (lambda: untyped(object()), "cannot be encoded"),
    "an option that makes no sense": (
        lambda: untyped.options(timeout="soon")("a"),
        "cannot read the duration",
    ),
    "a queue that makes no sense": (lambda: untyped.options(queue="")("a"), "queue"),
    "a sleep that is no duration": (lambda: any_workflow.sleep(5), "a duration is a timedelta or text"),
    "a sleep until a time without zone": (lambda: workflow.sleep(datetime(2030, 1, 1)), "time zone"),
    "a condition that is no function": (lambda: any_workflow.wait_until(True), "takes a function"),
    "a condition that is async": (lambda: any_workflow.wait_until(helper), "plain function"),
    "a timeout that is no duration": (
        lambda: workflow.wait_until(lambda: False, timeout="soon"),
        "cannot read the duration",
    ),
    "a topic that cannot be": (lambda: workflow.produce("no topic", 1), "topic"),
    "a record without JSON": (lambda: workflow.produce("topic", object()), "cannot be encoded"),
    "a compensation that cannot be called": (compensates_a_class_member, "compensate takes a function"),
    "a heartbeat": (beats, "for activities"),
    "a call that is dropped": (dropped, "'charge' was never awaited"),
    "a call that is overwritten": (overwritten, "'charge' was never awaited"),
    "calls that are dropped together": (dropped_together, "'charge' was never awaited"),
    "a call that is awaited twice": (awaited_twice, "cannot reuse an awaited call"),
    "a coroutine of the author's that is dropped": (dropped_helper, "helper.* was never awaited"),
    "a sleep that is dropped": (dropped_sleep, "sleep.* was never awaited"),
}


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    guard.install()


def run_of(program: Callable[[], Coroutine[Any, Any, Any]]) -> tuple[RunLoop, asyncio.Task[Any]]:
    no_info: Any = None
    loop = RunLoop("run")
    RunRuntime(loop, 7, JsonPayloads(validate_on_encode=False), no_info)
    loop.now = 1_700_000_000_000_000
    task = loop.create_task(program())
    loop.run()
    return loop, task


@pytest.mark.parametrize("swallowed", [(), Exception, BaseException])
@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_a_mistake_suspends_the_run_with_the_authors_line(mistake: str, swallowed: Any) -> None:
    call, message = MISTAKES[mistake]

    async def program() -> str:
        try:
            await call()
        except swallowed:
            await asyncio.sleep(0)
        return "went on"

    with pytest.raises(UsageError, match=rf"^{Path(__file__)}:\d+: (.|\n)*({message})"):
        run_of(program)


def test_the_line_of_a_wrong_call_is_that_of_the_call_though_it_is_awaited_elsewhere() -> None:
    async def program() -> None:
        calls = [
            untyped("b", 1, 2),
        ]
        await asyncio.gather(*calls)

    line = program.__code__.co_firstlineno + 2
    with pytest.raises(UsageError, match=rf"{Path(__file__).name}:{line}: "):
        run_of(program)


@pytest.mark.parametrize("what", ["sleep", "timeout", "wait_until"])
def test_a_negative_duration_is_over_at_once_as_in_asyncio(what: str) -> None:
    past = timedelta(seconds=-5)

    async def program() -> object:
        if what == "sleep":
            await workflow.sleep(past)
            await workflow.sleep(datetime(2001, 1, 1, tzinfo=UTC))
            return "went on"
        if what == "wait_until":
            return await workflow.wait_until(lambda: "", timeout=past) or "went on"
        try:
            async with workflow.timeout(past):
                await asyncio.Event().wait()
        except TimeoutError:
            return "went on"
        return "was never over"

    loop, task = run_of(program)
    if what == "timeout":
        assert [type(action).__name__ for action in loop.actions.items] == []
    assert task.result() == "went on"


def test_a_call_that_an_exception_drops_does_not_hide_the_exception() -> None:
    async def program() -> None:
        await asyncio.gather(charge("a"), asyncio.sleep(int("x")))

    with pytest.warns(RuntimeWarning, match="'charge' was never awaited"):
        task = run_of(program)[1]
    with pytest.raises(ValueError, match="invalid literal"):
        task.result()


def test_a_call_that_a_closing_task_group_refuses_does_not_hide_what_closed_it() -> None:
    async def fails() -> None:
        raise ValueError("first")

    async def late(group: asyncio.TaskGroup) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            group.create_task(charge("a"))

    async def program() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(late(group))
            await asyncio.sleep(0)
            group.create_task(fails())

    with warnings.catch_warnings(action="ignore"):
        loop, task = run_of(program)
        assert loop.fault is None
        error: Any = task.exception()
        assert isinstance(error, ExceptionGroup)
        assert "first" in repr(cast("object", error))
        del loop, task, error
        gc.collect()
