"""What begins and ends within one batch never happened."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from perdure.engine.outbox import DETAILS_KEPT, PASSES, BatchOutbox
from perdure.model.replies import Accepted
from perdure.model.tasks import Task
from perdure.model.timers import Timer, TimerKind

KEY = ("run-1", 1)
TIMER = Timer(5, "run-1", TimerKind.CODE, 1, "order-1")


class Steps:
    """Remembers what was started and stopped."""

    def __init__(self) -> None:
        self.started: list[Task] = []
        self.stopped: list[tuple[str, int]] = []

    def start(self, tasks: Sequence[Task]) -> None:
        self.started.extend(tasks)

    def cancel(self, run_id: str, number: int) -> None:
        self.stopped.append((run_id, number))


def task(attempt: int = 1, queue: str = "default", scheduled_at: int = 7) -> Task:
    return Task("order-1", "run-1", 1, attempt, f"token-{attempt}", "charge", queue, b"[]", 1, "key", scheduled_at)


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def outbox(steps: Steps) -> BatchOutbox:
    box = BatchOutbox(steps)
    box.begin(7)
    return box


def test_a_task_is_dispatched(outbox: BatchOutbox) -> None:
    outbox.dispatch(task())
    assert outbox.batch.tasks == {KEY: task()}
    assert outbox.batch.at == 7


def test_a_task_that_ends_in_the_batch_of_its_dispatch_was_never_there(outbox: BatchOutbox) -> None:
    outbox.dispatch(task())
    outbox.end_task(KEY, is_step=False)
    assert not outbox.batch.tasks
    assert not outbox.batch.tasks_ended


def test_a_task_of_an_earlier_batch_is_ended(outbox: BatchOutbox) -> None:
    outbox.end_task(KEY, is_step=False)
    assert outbox.batch.tasks_ended == {KEY}


def test_an_attempt_that_replaces_one_of_an_earlier_batch_is_in_tasks_only(outbox: BatchOutbox) -> None:
    outbox.end_task(KEY, is_step=False)
    outbox.dispatch(task(2))
    assert outbox.batch.tasks == {KEY: task(2)}
    assert not outbox.batch.tasks_ended


def test_a_second_attempt_that_ends_in_its_batch_ends_what_an_earlier_batch_may_have_left(outbox: BatchOutbox) -> None:
    outbox.end_task(KEY, is_step=False)
    outbox.dispatch(task(2))
    outbox.end_task(KEY, is_step=False)
    assert not outbox.batch.tasks
    assert outbox.batch.tasks_ended == {KEY}


def test_the_first_attempt_dispatched_again_and_ended_in_one_batch_ends_what_an_earlier_batch_left(outbox: BatchOutbox) -> None:
    outbox.dispatch(task(scheduled_at=0))  # scheduled at 0, the batch is stamped 7: it had been declined
    outbox.end_task(KEY, is_step=False)
    assert outbox.batch.tasks_ended == {KEY}


def test_a_timer_is_armed_and_disarmed(outbox: BatchOutbox) -> None:
    outbox.arm(TIMER)
    assert outbox.batch.timers == {TIMER}
    outbox.begin(8)
    outbox.disarm(TIMER)
    assert outbox.batch.timers_ended == {TIMER}


def test_a_timer_that_ends_in_its_batch_was_never_there(outbox: BatchOutbox) -> None:
    outbox.arm(TIMER)
    outbox.disarm(TIMER)
    assert not outbox.batch.timers
    assert not outbox.batch.timers_ended


def test_a_timer_that_fired_and_is_armed_again_for_the_same_moment_is_armed(outbox: BatchOutbox) -> None:
    outbox.disarm(TIMER)  # has fired
    outbox.arm(TIMER)
    assert outbox.batch.timers == {TIMER}
    assert not outbox.batch.timers_ended


def test_steps_are_started_when_asked_for_and_once(outbox: BatchOutbox, steps: Steps) -> None:
    outbox.dispatch(task(queue=""))
    assert not steps.started
    outbox.start_steps()
    outbox.start_steps()
    assert steps.started == [task(queue="")]
    assert outbox.awaited == {KEY}
    outbox.end_task(KEY, is_step=True)
    assert not outbox.awaited


def test_a_batch_is_not_held_open_for_steps_that_were_slow(outbox: BatchOutbox, steps: Steps) -> None:
    outbox.dispatch(task(queue=""))
    outbox.start_steps()
    outbox.note_slow()
    for _ in range(PASSES):
        outbox.begin(8)
        outbox.dispatch(task(queue=""))
        outbox.start_steps()
        assert not outbox.awaited
    assert len(steps.started) == PASSES + 1, "they are started all the same"
    outbox.dispatch(task(queue=""))
    outbox.start_steps()
    assert outbox.awaited == {KEY}, "another chance"


def test_steps_of_an_aborted_batch_are_not_started_by_the_next(outbox: BatchOutbox, steps: Steps) -> None:
    outbox.dispatch(task(queue=""))
    outbox.begin(8)
    outbox.start_steps()
    assert not steps.started


def test_a_worker_is_told_to_stop_after_the_commit_a_step_at_once(outbox: BatchOutbox, steps: Steps) -> None:
    outbox.cancel("run-1", 1, "token-1", is_step=False)
    outbox.cancel("run-1", 2, "token-2", is_step=True)
    assert outbox.batch.cancelled == ["token-1"]
    assert steps.stopped == [("run-1", 2)]


def test_nobody_is_answered_who_does_not_wait(outbox: BatchOutbox) -> None:
    outbox.reply("", Accepted("r", "run-1"))
    outbox.reply("me", None)
    outbox.reply("me", Accepted("r", "run-1"))
    assert outbox.batch.replies == [("me", Accepted("r", "run-1"))]


def test_the_next_attempt_gets_the_details_of_the_last_heartbeat(outbox: BatchOutbox) -> None:
    outbox.keep_details("run-1", 1, b'["half"]')
    outbox.end_task(KEY, is_step=False)
    outbox.begin(8)
    outbox.dispatch(task(2))
    assert outbox.batch.tasks[KEY].details == b'["half"]'


def test_details_are_bounded(outbox: BatchOutbox) -> None:
    for number in range(DETAILS_KEPT + 1):
        outbox.keep_details("run-1", number + 1, b"[1]")
    outbox.dispatch(task())
    assert outbox.batch.tasks[KEY].details == b"", "the oldest are forgotten"
