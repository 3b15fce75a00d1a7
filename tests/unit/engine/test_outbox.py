"""An effect that begins and ends within one batch is not written."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from perdure.core.registry import ANSWERS
from perdure.engine.outbox import DETAILS_KEPT, PASSES, BatchOutbox, can_reply
from perdure.model.addresses import Workflow
from perdure.model.commands import AnyCommand, AwaitWorkflow, SignalWorkflow
from perdure.model.inline import InlineTask
from perdure.model.replies import Accepted, AnyReply
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

    def start_inline(self, tasks: Sequence[InlineTask]) -> None:
        self.started.extend(each.task for each in tasks)

    def cancel(self, run_id: str, number: int) -> None:
        self.stopped.append((run_id, number))


def task(attempt: int = 1, queue: str = "default", scheduled_at: int = 7) -> Task:
    return Task(
        "order-1", "run-1", 1, attempt, f"token-{attempt}", "charge", queue, b"[]", 1, "key", scheduled_at
    )


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def outbox(steps: Steps) -> BatchOutbox:
    box = BatchOutbox(steps)
    box.begin(7)
    return box


def test_a_stored_timer_that_a_pause_holds_and_its_end_stores_again_can_be_removed_in_one_batch(
    outbox: BatchOutbox,
) -> None:
    outbox.disarm(TIMER)
    outbox.arm(TIMER)
    assert (outbox.batch.timers, outbox.batch.timers_ended) == ({TIMER}, set())

    outbox.disarm(TIMER)

    assert (outbox.batch.timers, outbox.batch.timers_ended) == (set(), {TIMER})


def test_a_task_is_dispatched(outbox: BatchOutbox) -> None:
    outbox.dispatch(task())
    assert outbox.batch.tasks == {KEY: task()}
    assert outbox.batch.at == 7


def test_a_task_that_ends_in_the_batch_of_its_dispatch_is_not_written(outbox: BatchOutbox) -> None:
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


def test_a_second_attempt_that_ends_in_its_batch_ends_what_an_earlier_batch_may_have_left(
    outbox: BatchOutbox,
) -> None:
    outbox.end_task(KEY, is_step=False)
    outbox.dispatch(task(2))
    outbox.end_task(KEY, is_step=False)
    assert not outbox.batch.tasks
    assert outbox.batch.tasks_ended == {KEY}


def test_the_first_attempt_dispatched_again_and_ended_in_one_batch_ends_what_an_earlier_batch_left(
    outbox: BatchOutbox,
) -> None:
    outbox.dispatch(task(scheduled_at=0))  # scheduled at 0, the batch is stamped 7: it had been declined
    outbox.end_task(KEY, is_step=False)
    assert outbox.batch.tasks_ended == {KEY}


def test_a_timer_is_armed_and_disarmed(outbox: BatchOutbox) -> None:
    outbox.arm(TIMER)
    assert outbox.batch.timers == {TIMER}
    outbox.begin(8)
    outbox.disarm(TIMER)
    assert outbox.batch.timers_ended == {TIMER}


def test_a_timer_that_ends_in_its_batch_is_not_written(outbox: BatchOutbox) -> None:
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


def test_cancellation_reaches_a_worker_after_the_commit_and_a_step_immediately(
    outbox: BatchOutbox, steps: Steps
) -> None:
    outbox.cancel("run-1", 1, "token-1", is_step=False)
    outbox.cancel("run-1", 2, "token-2", is_step=True)
    assert outbox.batch.cancelled == ["token-1"]
    assert steps.stopped == [("run-1", 2)]


def test_a_request_without_an_address_gets_no_answer(outbox: BatchOutbox) -> None:
    outbox.reply(AwaitWorkflow("w"), Accepted("r", "run-1"))
    outbox.reply(AwaitWorkflow("w", reply_to="me"), None)
    outbox.reply(AwaitWorkflow("w", reply_to="me"), Accepted("r", "run-1"))
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


# ---- commands for workflows, and answers to them


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that takes answers of kind `toy` as signals."""

    def answered(address: Workflow, reply: AnyReply) -> AnyCommand:
        return SignalWorkflow(
            address.workflow_id, address.run_id, name=f"{type(reply).__name__} {address.number}"
        )

    monkeypatch.setitem(ANSWERS, "toy", answered)


def asked(reply_to: str) -> AwaitWorkflow:
    return AwaitWorkflow("order-1", "run-1", "r", reply_to)


def test_commands_are_sent_in_their_order(outbox: BatchOutbox) -> None:
    sent: list[AnyCommand] = [SignalWorkflow(f"w-{number % 3}", name=str(number)) for number in range(10)]
    for command in sent:
        outbox.send(command)
    assert outbox.batch.commands == sent


@pytest.mark.usefixtures("toy")
def test_an_answer_to_a_workflow_is_a_command_for_it(outbox: BatchOutbox) -> None:
    outbox.reply(asked(str(Workflow("toy", "parent", "run-9", 4))), Accepted("r", "run-1"))
    assert outbox.batch.commands == [SignalWorkflow("parent", "run-9", name="Accepted 4")]
    assert (outbox.batch.replies, outbox.batch.letters) == ([], [])


def test_an_answer_that_no_machine_takes_is_a_dead_letter_of_the_request(outbox: BatchOutbox) -> None:
    request = asked("workflow:novel/run-9/4/parent")
    outbox.reply(request, Accepted("r", "run-1"))
    (letter,) = outbox.batch.letters
    assert (letter.command, letter.reason) == (request, "unanswerable")
    assert "'parent'" in letter.message
    assert "'novel'" in letter.message
    assert (outbox.batch.commands, outbox.batch.replies) == ([], [])


def test_an_answer_that_cannot_be_made_is_a_dead_letter_and_stops_no_other(
    outbox: BatchOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(address: Workflow, reply: AnyReply) -> AnyCommand:
        raise ValueError("no such child")

    monkeypatch.setitem(ANSWERS, "broken", broken)
    outbox.reply(asked("workflow:broken/run-9/4/parent"), Accepted("r", "run-1"))
    outbox.reply(asked("me"), Accepted("r", "run-1"))
    (letter,) = outbox.batch.letters
    assert "no such child" in letter.message
    assert len(outbox.batch.replies) == 1


@pytest.mark.parametrize(
    "address",
    ["workflow:", "workflow:toy/r/1/\ud800", "workflow:toy/r/-1/w", "workflow:toy/r/1/" + "w" * 1_000],
)
@pytest.mark.usefixtures("toy")
def test_text_that_resembles_a_workflow_address_is_not_an_address(outbox: BatchOutbox, address: str) -> None:
    outbox.reply(asked(address), Accepted("r", "run-1"))
    assert (outbox.batch.commands, outbox.batch.replies, outbox.batch.letters) == ([], [], [])
    assert not can_reply(address)


def test_an_aborted_batch_has_sent_nothing(outbox: BatchOutbox) -> None:
    outbox.send(SignalWorkflow("w", name="a"))
    outbox.begin(8)
    assert outbox.batch.commands == []
