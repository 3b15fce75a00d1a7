"""Inline steps beside the engine: held, cancelled, out of time, or asked for twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from perdure.codec.payloads import JsonPayloads
from perdure.model import commands as cm
from perdure.model.inline import OUTCOME_UNKNOWN, InlineStep, InlineTask
from perdure.model.tasks import Task
from perdure.worker.activity_threads import ActivityThreads
from perdure.worker.attempt import Attempts
from perdure.worker.steps import LocalSteps


def inline(
    call: Callable[[], Any], number: int = 1, *, timeout_us: int = 10_000_000, **how: Any
) -> InlineTask:
    """A step with this function."""
    task = Task("w", "run-1", number, 1, f"token-{number}", "pay", "", b"[]", timeout_us, "key", 0)
    step = InlineStep("pay", call, call, returns=Any, reconcile=how.pop("reconcile", None))
    return InlineTask(task, step, **how)


def reports_of(script: Callable[[LocalSteps], Awaitable[None]]) -> list[Any]:
    """The reports until all steps have ended."""
    reports: list[Any] = []

    async def run() -> None:
        attempts = Attempts({}, JsonPayloads(), ActivityThreads(1), instances={})
        steps = LocalSteps(asyncio.get_running_loop(), attempts, reports.extend)
        await script(steps)
        while not steps.is_idle:
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(run(), 20))
    return reports


def test_steps_that_are_held_start_when_they_are_released_but_for_cancelled_ones() -> None:
    ran: list[int] = []

    async def script(steps: LocalSteps) -> None:
        steps.hold()
        steps.start_inline([inline(lambda: ran.append(1), 1), inline(lambda: ran.append(2), 2)])
        await asyncio.sleep(0)
        steps.cancel("run-1", 1)
        await asyncio.sleep(0)
        assert ran == []
        steps.release()

    assert [each.number for each in reports_of(script)] == [2]
    assert ran == [2]


def test_a_step_at_most_once_that_runs_here_is_not_started_a_second_time() -> None:
    ran: list[str] = []

    async def call() -> str:
        ran.append("begun")
        await asyncio.sleep(0.01)
        return "paid"

    async def script(steps: LocalSteps) -> None:
        steps.start_inline([inline(call, is_at_most_once=True)])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        # The partition has gone and come back: the step is found in the store.
        steps.start_inline([inline(call, is_at_most_once=True, is_unknown=True)])

    (report,) = reports_of(script)
    assert report.result == b'"paid"'
    assert ran == ["begun"]


async def forever() -> None:
    await asyncio.Event().wait()


def failed(step: InlineTask) -> cm.FailActivity:
    async def script(steps: LocalSteps) -> None:
        steps.start_inline([step])

    (report,) = reports_of(script)
    assert isinstance(report, cm.FailActivity)
    return report


def test_a_timeout_is_a_failure_unless_the_step_may_not_run_twice() -> None:
    report = failed(inline(forever, timeout_us=1_000))
    assert report.timed_out
    report = failed(inline(forever, timeout_us=1_000, is_at_most_once=True))
    assert (report.failure.type, report.failure.is_final) == (OUTCOME_UNKNOWN, True)
    assert "it may have taken effect: attempt 1 had no result within timeout=0.001s" in report.failure.message


def test_an_unknown_outcome_is_tried_again_where_it_can_be_looked_up() -> None:
    report = failed(inline(forever, timeout_us=1_000, is_at_most_once=True, reconcile=lambda: 1))
    assert (report.failure.type, report.failure.is_final) == (OUTCOME_UNKNOWN, False)

    def broken() -> int:
        raise ConnectionError("the bank is down")

    report = failed(inline(forever, is_at_most_once=True, is_unknown=True, reconcile=broken))
    assert (report.failure.type, report.failure.is_final) == (OUTCOME_UNKNOWN, False)
    assert "could not be looked up: ConnectionError: the bank is down" in report.failure.message
    assert report.failure.cause is not None
