"""A worker runs many attempts at the same time, reports what ended, and holds nothing for what was
cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import Any

import pytest

from perdure import activity
from perdure.activity import Activity
from perdure.codec.payloads import JsonPayloads
from perdure.errors import Failure
from perdure.model import commands as cm
from perdure.model.tasks import Task
from perdure.worker.activity_threads import ActivityThreads
from perdure.worker.attempt import Attempts
from perdure.worker.heartbeats import BEAT_S, STARTED_AFTER_S, Running
from perdure.worker.steps import LocalSteps
from perdure.worker.worker import Worker


class Gate:
    """Events that the activities below wait for; created for each test."""

    opened: asyncio.Event
    stopped: list[int]
    running: int
    most: int


@activity.defn
async def wait(number: int) -> int:
    Gate.running += 1
    Gate.most = max(Gate.most, Gate.running)
    try:
        await Gate.opened.wait()
    except asyncio.CancelledError:
        Gate.stopped.append(number)
        raise
    finally:
        Gate.running -= 1
    return number


@activity.defn
async def fail(number: int) -> None:
    activity.heartbeat("half-way", number)
    raise Failure("final")


@activity.defn(timeout="10ms")
async def hang(number: int) -> None:
    await asyncio.Event().wait()


@activity.defn
def on_a_thread(number: int) -> bool:
    return threading.current_thread() is threading.main_thread()


@activity.defn
async def leave(number: int) -> None:
    raise SystemExit(number)


ACTIVITIES: dict[str, Activity[..., Any]] = {
    each.name: each for each in (wait, fail, hang, on_a_thread, leave)
}


def task(name: str, number: int = 1, attempt: int = 1, timeout_us: int = 10_000_000) -> Task:
    return Task(
        "w",
        "run-1",
        number,
        attempt,
        f"token-{number}-{attempt}",
        name,
        "default",
        f"[{number}]".encode(),
        timeout_us,
        "key",
        0,
    )


class Reports:
    """The submitted commands."""

    def __init__(self) -> None:
        self.calls: list[list[cm.AnyCommand]] = []

    def __call__(self, commands: Sequence[cm.AnyCommand]) -> None:
        self.calls.append(list(commands))

    @property
    def all(self) -> list[Any]:
        return [command for call in self.calls for command in call]


def attempts() -> Attempts:
    return Attempts(ACTIVITIES, JsonPayloads(), ActivityThreads(2), instances={})


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def body() -> None:
            Gate.opened, Gate.stopped, Gate.running, Gate.most = asyncio.Event(), [], 0, 0
            await test(*args, **kwargs)

        asyncio.run(asyncio.wait_for(body(), 20))

    return run


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
def worker(reports: Reports) -> Worker:
    return Worker("worker-1", attempts(), reports, concurrency=2)


async def idle(of: Worker | LocalSteps) -> None:
    while not of.is_idle:
        await asyncio.sleep(0)


async def turns(count: int = 5) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


@on_a_loop
async def test_attempts_that_end_in_one_turn_are_reported_together(worker: Worker, reports: Reports) -> None:
    worker.deliver([task("wait", 1), task("wait", 2)])
    await turns()
    Gate.opened.set()
    await idle(worker)
    (call,) = reports.calls
    assert call == [
        cm.CompleteActivity("w", "run-1", number=n, token=f"token-{n}-1", result=str(n).encode())
        for n in (1, 2)
    ]


@on_a_loop
async def test_more_tasks_than_may_run_at_once_wait_in_their_order(worker: Worker, reports: Reports) -> None:
    worker.deliver([task("wait", number) for number in range(1, 6)])
    await turns()
    assert Gate.most == 2
    Gate.opened.set()
    await idle(worker)
    assert Gate.most == 2
    assert [command.number for command in reports.all] == [1, 2, 3, 4, 5]


@on_a_loop
async def test_a_task_that_is_delivered_again_while_it_runs_runs_once(
    worker: Worker, reports: Reports
) -> None:
    worker.deliver([task("wait")])
    worker.deliver([task("wait")])
    await turns()
    assert Gate.most == 1
    Gate.opened.set()
    await idle(worker)
    assert len(reports.all) == 1


@on_a_loop
async def test_an_attempt_that_is_cancelled_stops_and_reports_nothing(
    worker: Worker, reports: Reports
) -> None:
    worker.deliver([task("wait", 1), task("wait", 2), task("wait", 3)])
    await turns()
    worker.cancel(["token-1-1", "token-3-1", "never-heard-of"])
    await turns()
    Gate.opened.set()
    await idle(worker)
    assert Gate.stopped == [1]
    assert [command.number for command in reports.all] == [2]


@on_a_loop
async def test_an_attempt_that_is_cancelled_before_its_first_line_leaves_its_place_to_others(
    worker: Worker, reports: Reports
) -> None:
    worker.deliver([task("wait", 1), task("wait", 2), task("wait", 3)])
    worker.cancel(["token-1-1", "token-2-1"])
    Gate.opened.set()
    await asyncio.wait_for(idle(worker), 5)
    assert [command.number for command in reports.all] == [3]


@on_a_loop
async def test_a_task_of_an_unknown_activity_is_declined_with_what_is_known(
    worker: Worker, reports: Reports
) -> None:
    worker.deliver([task("fly")])
    (declined,) = reports.all
    assert isinstance(declined, cm.DeclineActivity)
    assert "'fly'" in declined.reason
    assert "wait" in declined.reason


@on_a_loop
async def test_a_failure_is_sent_after_the_heartbeat_whose_details_the_next_attempt_gets(
    worker: Worker, reports: Reports
) -> None:
    worker.deliver([task("fail")])
    await idle(worker)
    beat, failed = reports.all
    assert isinstance(beat, cm.HeartbeatActivity)
    assert beat.details == b'["half-way",1]'
    assert isinstance(failed, cm.FailActivity)
    assert failed.failure.is_final


@on_a_loop
async def test_an_attempt_whose_time_is_up_says_so(worker: Worker, reports: Reports) -> None:
    worker.deliver([task("hang", timeout_us=10_000)])
    await idle(worker)
    (failed,) = reports.all
    assert isinstance(failed, cm.FailActivity)
    assert failed.timed_out
    assert "timeout=0.01s" in failed.failure.message


@on_a_loop
async def test_a_sync_function_runs_in_a_thread(worker: Worker, reports: Reports) -> None:
    worker.deliver([task("on_a_thread")])
    await idle(worker)
    (completed,) = reports.all
    assert completed.result == b"false"


@on_a_loop
async def test_an_activity_that_calls_exit_fails_and_the_worker_continues(
    worker: Worker, reports: Reports
) -> None:
    worker.deliver([task("leave", 1), task("fail", 2)])
    await idle(worker)
    assert {command.number for command in reports.all if isinstance(command, cm.FailActivity)} == {1, 2}


@on_a_loop
async def test_a_long_attempt_is_started_once_and_beats_from_then_on(worker: Worker) -> None:
    running = Running(task("wait"))
    assert worker._heartbeats.due(running, 90.0) is None, "it waits for a thread: its time has not begun"
    running.since = 100.0
    assert worker._heartbeats.due(running, 100.0 + STARTED_AFTER_S / 2) is None
    now = 100.0 + STARTED_AFTER_S
    assert isinstance(worker._heartbeats.due(running, now), cm.StartActivity)
    assert isinstance(worker._heartbeats.due(running, now), cm.HeartbeatActivity)
    assert worker._heartbeats.due(running, now + BEAT_S / 2) is None
    running.details = b"[1]"
    beat = worker._heartbeats.due(running, now + BEAT_S)
    assert isinstance(beat, cm.HeartbeatActivity)
    assert beat.details == b"[1]"
    again = worker._heartbeats.due(running, now + 2 * BEAT_S)
    assert isinstance(again, cm.HeartbeatActivity)
    assert again.details == b"", "it has been sent"


@on_a_loop
async def test_a_drain_lets_what_runs_end_and_takes_nothing_new(worker: Worker, reports: Reports) -> None:
    worker.deliver([task("wait", 1), task("wait", 2), task("wait", 3)])
    await turns()
    draining = asyncio.create_task(worker.drain(5.0))
    await turns()
    worker.deliver([task("wait", 4)])
    Gate.opened.set()
    assert await draining == 0
    assert [command.number for command in reports.all] == [1, 2]


@on_a_loop
async def test_a_drain_cuts_short_what_does_not_end_in_time(worker: Worker, reports: Reports) -> None:
    worker.deliver([task("wait", 1)])
    await turns()
    assert await worker.drain(0.0) == 1
    assert Gate.stopped == [1]
    assert reports.all == []


def steps_of(reports: Reports) -> LocalSteps:
    return LocalSteps(asyncio.get_running_loop(), attempts(), reports)


@on_a_loop
async def test_steps_that_end_in_one_turn_are_reported_together(reports: Reports) -> None:
    steps = steps_of(reports)
    steps.start([task("wait", 1), task("fail", 2)])
    Gate.opened.set()
    await idle(steps)
    assert len(reports.all) == 2


@on_a_loop
async def test_steps_that_are_held_start_when_they_are_released_but_for_cancelled_ones(
    reports: Reports,
) -> None:
    steps = steps_of(reports)
    steps.hold()
    steps.start([task("wait", 1), task("wait", 2)])
    steps.start([task("wait", 3)])
    Gate.opened.set()
    await turns()
    steps.cancel("run-1", 2)
    await turns()
    assert not steps.is_idle
    assert steps.running == 0
    assert reports.all == []
    steps.release()
    await idle(steps)
    assert [command.number for command in reports.all] == [1, 3]
    steps.start([task("wait", 4)])
    await idle(steps)
    assert [command.number for command in reports.all] == [1, 3, 4]


@on_a_loop
async def test_an_unknown_step_fails_and_is_tried_again(reports: Reports) -> None:
    steps = steps_of(reports)
    steps.start([task("fly")])
    await idle(steps)
    (failed,) = reports.all
    assert isinstance(failed, cm.FailActivity)
    assert not failed.failure.is_final


@on_a_loop
async def test_a_cancelled_step_reports_nothing(reports: Reports) -> None:
    steps = steps_of(reports)
    steps.start([task("wait")])
    await turns()
    steps.cancel("run-1", 1)
    await idle(steps)
    assert Gate.stopped == [1]
    assert reports.all == []


@on_a_loop
async def test_a_step_that_is_cancelled_before_its_first_line_is_not_waited_for(reports: Reports) -> None:
    steps = steps_of(reports)
    steps.start([task("wait")])
    steps.cancel("run-1", 1)
    await asyncio.wait_for(idle(steps), 5)
    assert reports.all == []


@on_a_loop
async def test_cancelling_a_restarted_step_cancels_the_new_attempt(reports: Reports) -> None:
    """As after an aborted batch: the first one runs on, its report will not count."""
    steps = steps_of(reports)
    steps.start([task("fail", 1)])
    steps.start([task("wait", 1, attempt=2)])
    await turns(10)
    steps.cancel("run-1", 1)
    await idle(steps)
    assert Gate.stopped == [1]
    assert all(isinstance(command, cm.FailActivity) for command in reports.all)
