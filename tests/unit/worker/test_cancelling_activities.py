"""An activity that cancels every task of its loop costs attempts: each of them is reported, and
later ones run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure.codec.payloads import JsonPayloads
from perdure.model import commands as cm
from perdure.model.tasks import claim_text
from perdure.worker import heartbeats
from perdure.worker.activity_threads import ActivityThreads
from perdure.worker.attempt import Attempts
from perdure.worker.steps import LocalSteps
from perdure.worker.worker import Worker
from tests.unit.worker import test_claims
from tests.unit.worker.test_worker import Gate, Reports, attempts, idle, on_a_loop, steps_of, task, turns


def cancel_all() -> None:
    """As an activity may do, for instance to close a library; all tasks but those of the test."""
    for each in asyncio.all_tasks():
        if getattr(each.get_coro(), "__qualname__", "").startswith(("Worker.", "LocalSteps.", "Heartbeats.")):
            each.cancel()


@pytest.fixture
def reports() -> Reports:
    return Reports()


def worker_of(reports: Reports, concurrency: int = 3) -> Worker:
    return Worker("worker-1", attempts(), reports, concurrency)


def by_number(reports: list[Any]) -> list[Any]:
    """Tasks are cancelled in the order of a set."""
    return sorted(reports, key=lambda report: int(report.number))


def assert_failed(report: Any, number: int) -> None:
    assert isinstance(report, cm.FailActivity)
    assert (report.number, report.token) == (number, f"token-{number}-1")
    assert report.failure.type == "asyncio.exceptions:CancelledError"


@on_a_loop
async def test_attempts_that_are_cancelled_before_their_first_line_have_failed(reports: Reports) -> None:
    worker = worker_of(reports)
    worker.deliver([task("wait", 1), task("wait", 2), task("wait", 3), task("wait", 4)])
    cancel_all()
    Gate.opened.set()
    await idle(worker)
    for number, report in enumerate(by_number(reports.all[:3]), 1):
        assert_failed(report, number)
    assert "cancelled before it began" in reports.all[0].failure.message
    assert reports.all[3:] == [cm.CompleteActivity("w", "run-1", number=4, token="token-4-1", result=b"4")]


@on_a_loop
async def test_steps_that_are_cancelled_before_their_first_line_have_failed(reports: Reports) -> None:
    steps = steps_of(reports)
    steps.start([task("wait", 1), task("wait", 2)])
    await asyncio.sleep(0)
    cancel_all()
    Gate.opened.set()
    await idle(steps)
    for number, report in enumerate(by_number(reports.all), 1):
        assert_failed(report, number)
    assert len(reports.all) == 2
    steps.start([task("wait", 3)])
    await idle(steps)
    assert isinstance(reports.all[2], cm.CompleteActivity)


@on_a_loop
async def test_attempts_that_run_have_failed_too(reports: Reports) -> None:
    worker = worker_of(reports)
    worker.deliver([task("wait", 1), task("wait", 2)])
    await turns()
    cancel_all()
    await idle(worker)
    for number, report in enumerate(by_number(reports.all), 1):
        assert_failed(report, number)
    assert len(reports.all) == 2


@pytest.mark.parametrize("after", [0, 3])
@on_a_loop
async def test_an_attempt_that_may_not_run_twice_still_waits_for_its_claim(
    after: int, reports: Reports
) -> None:
    """Another worker may have it: a report of this one would end it."""
    once = Attempts(test_claims.ACTIVITIES, JsonPayloads(), ActivityThreads(2), instances={})
    worker = Worker("worker-1", once, reports)
    test_claims.RAN.clear()
    worker.deliver([test_claims.task("blind")])
    await turns(after)
    cancel_all()
    await turns()
    assert {type(each) for each in reports.all} == {cm.StartActivity}
    worker.cancel([claim_text("token-1", worker.claims.claimant)])
    await idle(worker)
    assert isinstance(reports.all[-1], cm.CompleteActivity)
    assert test_claims.RAN == {"blind": 1}


@on_a_loop
async def test_heartbeats_continue(reports: Reports) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(heartbeats, "STARTED_AFTER_S", 0.002)
        patched.setattr(heartbeats, "BEAT_S", 0.002)
        worker = worker_of(reports)
        worker.deliver([task("wait", 1)])
        await turns()
        (beating,) = (each for each in asyncio.all_tasks() if "_beat" in repr(each.get_coro()))
        beating.cancel()
        while not any(isinstance(each, cm.StartActivity) for each in reports.all):
            await asyncio.sleep(0.001)
        Gate.opened.set()
        await idle(worker)


def refuse(loop: asyncio.AbstractEventLoop, work: Any, **_: Any) -> Any:
    work.close()
    raise RuntimeError("no tasks today")


def lose(loop: asyncio.AbstractEventLoop, work: Any, **_: Any) -> Any:
    work.close()


@pytest.mark.parametrize("factory", [refuse, lose, getattr(asyncio, "eager_task_factory", refuse)])
@pytest.mark.parametrize("kind", ["activities", "steps"])
@on_a_loop
async def test_attempts_run_whatever_makes_the_tasks_of_the_loop(
    kind: str, factory: Any, reports: Reports
) -> None:
    loop = asyncio.get_running_loop()
    runs: Worker | LocalSteps = worker_of(reports) if kind == "activities" else steps_of(reports)
    loop.set_task_factory(factory)
    try:
        if isinstance(runs, Worker):
            runs.deliver([task("wait", 1), task("on_a_thread", 2)])
        else:
            runs.start([task("wait", 1), task("on_a_thread", 2)])
        await turns()
        Gate.opened.set()
        await idle(runs)
    finally:
        loop.set_task_factory(None)
    assert {type(each) for each in reports.all} == {cm.CompleteActivity}
    assert len(reports.all) == 2
