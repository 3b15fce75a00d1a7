"""The machine of one child."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.machines.child import STARTING
from perdure.core.registry import ANSWERS
from perdure.core.run import fold
from perdure.core.start import started_event
from perdure.model import addresses
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.replies import Accepted, AnyReply, Closed, Refused
from perdure.model.states import Status, Wait
from tests.unit.core.driven import BROKEN, NOW, Driven


def request(run: Driven, number: int = 1, **options: Any) -> None:
    """The code starts a child."""
    run.record(ev.ChildRequested(number, f"parcel-{number}", "Parcel", b"[1]", **options))


def answer(run: Driven, reply: AnyReply, kind: str = "child", number: int = 1) -> list[Any]:
    """A reply, as the command that it becomes; the events that follow."""
    command = ANSWERS[kind](addresses.Workflow(kind, "order-1", "run-1", number), reply)
    fields = {name: getattr(command, name) for name in command.__struct_fields__[1:]}
    return run.events(type(command), **fields)


@pytest.fixture
def run() -> Driven:
    driven = Driven()
    request(driven)
    return driven


@pytest.fixture
def started(run: Driven) -> Driven:
    answer(run, Accepted("", "run-2"))
    run.written.sent.clear()
    return run


def test_the_start_is_sent_and_its_answer_comes_to_this_run(run: Driven) -> None:
    (start,) = run.written.sent
    assert isinstance(start, cm.StartWorkflow)
    assert (start.workflow_id, start.type, start.input) == ("parcel-1", "Parcel", b"[1]")
    assert start.if_running == "refuse"
    assert addresses.parse(start.reply_to) == addresses.Workflow("child", "order-1", "run-1", 1)


def test_a_run_that_was_started_as_a_child_knows_its_parent(run: Driven) -> None:
    (start,) = run.written.sent
    assert isinstance(start, cm.StartWorkflow)
    assert started_event(start, NOW, 7, 311).parent == start.reply_to
    other = cm.StartWorkflow("w", reply_to="workflow:message/run-1/1/order-1", type="Parcel")
    assert not started_event(other, NOW, 7, 311).parent


def test_it_starts_once(run: Driven) -> None:
    assert answer(run, Accepted("", "run-2")) == [ev.ChildStarted(1, "run-2")]
    assert answer(run, Accepted("", "run-2")) == []
    assert run.state.children[1].run_id == "run-2"


def test_a_refused_start_closes_it(run: Driven) -> None:
    refused = Refused("", "already_started", "the id is in use", "run-9")
    assert answer(run, refused) == [ev.ChildRefused(1, "already_started", "the id is in use")]
    assert answer(run, refused) == []
    assert run.state.children == {}


@pytest.mark.parametrize(
    ("closed", "event"),
    [
        (Closed("", "run-2", Status.COMPLETED, b"42"), ev.ChildCompleted(1, b"42")),
        (Closed("", "run-2", Status.FAILED, failure=BROKEN), ev.ChildFailed(1, BROKEN)),
        (
            Closed("", "run-2", Status.TERMINATED, reason="stop"),
            ev.ChildFailed(1, None, "terminated", "stop"),
        ),
        (Closed("", "run-2", Status.TIMED_OUT), ev.ChildFailed(1, None, "timed_out")),
        (Closed("", "run-2", Status.CANCELLED, reason="rain"), ev.ChildCancelled(1, "rain")),
    ],
    ids=lambda each: each.status.value if isinstance(each, Closed) else "",
)
def test_every_end_of_the_child_is_recorded_once(started: Driven, closed: Closed, event: Any) -> None:
    assert answer(started, closed) == [event]
    assert answer(started, closed) == []
    assert started.state.children == {}


def test_an_end_that_comes_before_the_answer_to_the_start_says_both(run: Driven) -> None:
    closed = Closed("", "run-2", Status.COMPLETED, b"42")
    assert answer(run, closed) == [ev.ChildStarted(1, "run-2"), ev.ChildCompleted(1, b"42")]
    assert answer(run, Accepted("", "run-2")) == []


def test_a_child_that_is_cancelled_is_asked_to_stop_and_still_ends(started: Driven) -> None:
    started.record(ev.ChildCancelRequested(1))
    (cancel,) = started.written.sent
    assert isinstance(cancel, cm.CancelWorkflow)
    assert (cancel.workflow_id, cancel.run_id) == ("parcel-1", "run-2")
    assert answer(started, Closed("", "run-2", Status.CANCELLED)) == [ev.ChildCancelled(1)]


def test_a_child_that_is_cancelled_before_it_has_answered_is_the_only_one_that_is_stopped(
    run: Driven,
) -> None:
    run.record(ev.ChildCancelRequested(1))
    start, cancel = run.written.sent
    assert isinstance(start, cm.StartWorkflow)
    assert isinstance(cancel, cm.CancelWorkflow)
    assert not cancel.run_id
    other = Driven(request_id="of somebody else")
    decision = other.ask(cm.CancelWorkflow, request_id="c-1", started_by=cancel.started_by)
    assert isinstance(decision.reply, Refused)
    assert not decision.events
    ours = Driven(request_id=start.request_id)
    assert ours.events(cm.CancelWorkflow, request_id="c-1", started_by=cancel.started_by)


@pytest.mark.parametrize(
    ("on_close", "sent"),
    [("cancel", cm.CancelWorkflow), ("terminate", cm.TerminateWorkflow), ("abandon", None)],
)
@pytest.mark.parametrize("has_started", [False, True])
def test_what_becomes_of_a_child_when_its_parent_ends(on_close: str, sent: Any, has_started: bool) -> None:
    run = Driven()
    request(run, on_close=on_close)
    if has_started:
        answer(run, Accepted("", "run-2"), "detached" if on_close == "abandon" else "child")
    run.written.sent.clear()
    run.record(ev.WorkflowCompleted(b"1"))
    assert [type(each) for each in run.written.sent] == ([] if sent is None else [sent])
    assert all(getattr(each, "started_by", "") == "run-1/child/1" for each in run.written.sent)
    assert answer(run, Closed("", "run-2", Status.CANCELLED)) == [], "the end of a child comes too late"


def test_a_child_that_was_cancelled_already_is_not_cancelled_again_when_its_parent_ends(
    started: Driven,
) -> None:
    started.record(ev.ChildCancelRequested(1))
    started.record(ev.WorkflowCompleted(b"1"))
    assert len(started.written.sent) == 1


def test_a_parent_gets_the_end_of_its_child() -> None:
    parent = str(addresses.Workflow("child", "order-1", "run-1", 1))
    child = Driven(parent=parent)
    child.record(ev.WorkflowCompleted(b"42"))
    ((reply_to, reply),) = child.written.replies
    assert reply_to == parent
    assert isinstance(reply, Closed)
    assert (reply.status, reply.result) == (Status.COMPLETED, b"42")


def test_an_abandoned_child_ends_without_answering_its_parent() -> None:
    child = Driven(parent=str(addresses.Workflow("detached", "order-1", "run-1", 1)))
    child.record(ev.WorkflowCompleted(b"42"))
    assert child.written.replies == []


def test_only_so_many_starts_are_out_at_a_time() -> None:
    run = Driven()
    for number in range(1, STARTING + 3):
        request(run, number)
    assert len(run.written.sent) == STARTING
    answer(run, Accepted("", "run-x"), number=1)
    answer(run, Refused("", "already_started", ""), number=2)
    assert [each.workflow_id for each in run.written.sent[STARTING:]] == [
        f"parcel-{STARTING + 1}",
        f"parcel-{STARTING + 2}",
    ]


def test_a_child_that_is_cancelled_before_its_turn_is_cancelled_when_it_starts() -> None:
    run = Driven()
    last = STARTING + 1
    for number in range(1, last + 1):
        request(run, number)
    run.record(ev.ChildCancelRequested(last))
    assert len(run.written.sent) == STARTING
    answer(run, Accepted("", "run-x"), number=1)
    assert [type(each) for each in run.written.sent[STARTING:]] == [cm.StartWorkflow, cm.CancelWorkflow]


def test_children_that_were_not_sent_are_not_stopped_when_the_run_ends() -> None:
    run = Driven()
    for number in range(1, STARTING + 3):
        request(run, number)
    run.written.sent.clear()
    run.record(ev.WorkflowCompleted(b"1"))
    assert len(run.written.sent) == STARTING


def test_children_that_were_not_sent_are_when_another_run_continues() -> None:
    run = Driven()
    for number in range(1, STARTING + 3):
        request(run, number)
    run.record(ev.WorkflowContinued(b"[]", "run-2"))
    assert len(run.written.sent) == STARTING + 2


def test_open_children_are_what_the_run_waits_for(run: Driven) -> None:
    from perdure.core.run import waits_of

    assert waits_of(run.state) == (Wait("child", "parcel-1", 1, 0, NOW),)


def test_children_are_known_again_when_the_run_is_folded(started: Driven) -> None:
    events: list[Any] = [
        ev.WorkflowStarted("Order", b"[]", 311, 7, request_id="start-1"),
        ev.ChildRequested(1, "parcel-1", "Parcel", b"[1]"),
        ev.ChildStarted(1, "run-2"),
    ]
    folded = fold([ev.EventRecord("order-1", "run-1", 1, NOW, -1, -1, b"", events)])
    assert folded.children[1].run_id == started.state.children[1].run_id == "run-2"
    assert (folded.starting, started.state.starting) == (0, 0)


def test_the_answer_to_a_cancellation_changes_nothing(started: Driven) -> None:
    assert answer(started, Refused("", "closed", "it has ended"), "child-stop") == []
