"""Answers that a run owes to workflows: recorded, kept, and sent once, with the events that cause
them."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.machine import NOTHING
from perdure.core.machines.promise import PROMISES, keep, promised
from perdure.core.run import fold
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.failure import FailureInfo
from perdure.model.replies import Accepted, Closed, Refused
from perdure.model.states import Status
from tests.unit.core.driven import NOW, Driven

PARENT = "workflow:child/run-9/1/parent"
OTHER = "workflow:child/run-8/1/other"
ENDS = [
    (ev.WorkflowCompleted(b"42"), Status.COMPLETED),
    (ev.WorkflowFailed(FailureInfo("builtins:ValueError", "no")), Status.FAILED),
    (ev.WorkflowCancelled("enough"), Status.CANCELLED),
    (ev.WorkflowTerminated("stop"), Status.TERMINATED),
    (ev.WorkflowTimedOut(), Status.TIMED_OUT),
]


def waiting(run: Driven, request_id: str = "r-1", reply_to: str = PARENT) -> list[Any]:
    return run.events(cm.AwaitWorkflow, run_id="run-1", request_id=request_id, reply_to=reply_to)


def test_that_a_workflow_waits_is_an_event() -> None:
    assert waiting(Driven()) == [ev.AnswerPromised("r-1", PARENT)]


def test_a_request_that_is_repeated_is_promised_once() -> None:
    run = Driven()
    assert waiting(run)
    assert run.ask(cm.AwaitWorkflow, run_id="run-1", request_id="r-1", reply_to=PARENT) == NOTHING
    assert waiting(run, "r-2")
    assert waiting(run, "r-1", OTHER)
    run.record(ev.WorkflowCompleted(b"1"))
    assert [(to, reply.request_id) for to, reply in run.written.replies] == [
        (PARENT, "r-1"),
        (PARENT, "r-2"),
        (OTHER, "r-1"),
    ]


@pytest.mark.parametrize(("end", "status"), ENDS, ids=[status.value for _, status in ENDS])
def test_every_end_of_the_run_is_answered_once(end: Any, status: Status) -> None:
    run = Driven()
    waiting(run)
    run.record(end)
    ((reply_to, reply),) = run.written.replies
    assert reply_to == PARENT
    assert isinstance(reply, Closed)
    assert (reply.request_id, reply.run_id, reply.status) == ("r-1", "run-1", status)
    assert (reply.result, reply.failure) == (run.state.result, run.state.failure)
    assert run.state.promises == {}


def test_a_run_without_waiters_sends_no_answer() -> None:
    run = Driven()
    run.record(ev.WorkflowCompleted(b"1"))
    assert run.written.replies == []


def test_what_is_owed_is_known_again_when_the_run_is_folded() -> None:
    run = Driven()
    (promise,) = waiting(run)
    started = ev.WorkflowStarted("Order", b"[]", 311, 7, request_id="start-1")
    records = [ev.EventRecord("order-1", "run-1", 1, NOW, -1, -1, b"", [started, promise])]
    assert fold(records).promises == run.state.promises == {"": {(PARENT, "r-1"): None}}
    records.append(ev.EventRecord("order-1", "run-1", 3, NOW, -1, -1, b"", [ev.WorkflowCompleted(b"1")]))
    assert fold(records).promises == {}, "and it was sent when it was recorded"


def test_an_answer_about_a_subject_is_sent_to_those_who_wait_for_that_one() -> None:
    run = Driven()
    for subject, request_id in (("update/1", "r-1"), ("update/2", "r-2"), ("", "r-3")):
        request = cm.AwaitWorkflow("order-1", "run-1", request_id, PARENT)
        for event in promised(run.state, request, subject).events:
            run.record(event)
    keep(run.state, "update/1", Accepted("", "run-1"), run.written)
    keep(run.state, "update/1", Accepted("", "run-1"), run.written)
    assert run.written.replies == [(PARENT, Accepted("r-1", "run-1"))]
    assert run.written.subjects == [("run-1", "update/1")] * 2, "clients that wait for it are answered, too"
    run.record(ev.WorkflowCompleted(b"1"))
    assert [(type(reply), reply.request_id) for _, reply in run.written.replies[1:]] == [
        (Closed, "r-2"),
        (Closed, "r-3"),
    ]


def test_replaying_an_answer_does_not_send_it_again() -> None:
    run = Driven()
    waiting(run)
    keep(run.state, "", Accepted("", "run-1"), None)
    assert run.state.promises == {}
    assert run.written.replies == []


def test_a_run_has_a_limit_of_open_promises() -> None:
    run = Driven()
    for number in range(PROMISES):
        assert waiting(run, f"r-{number}")
    decision = run.ask(cm.AwaitWorkflow, run_id="run-1", request_id="more", reply_to=PARENT)
    assert isinstance(decision.reply, Refused)
    assert decision.reply.code == "limit"
    assert not decision.events
    assert waiting(run, "r-5") == [], "one of those that it owes may be repeated"
