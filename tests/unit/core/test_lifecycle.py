"""The machine of a run as a whole."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.state import STATUS, Phase
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.failure import FailureInfo
from perdure.model.replies import Refused
from perdure.model.states import Status
from perdure.model.timers import TimerKind
from tests.unit.core.driven import NOW, SECOND, Driven

ENDS = [
    (ev.WorkflowCompleted(b"1"), Phase.COMPLETED),
    (ev.WorkflowFailed(FailureInfo("app:Sad")), Phase.FAILED),
    (ev.WorkflowCancelled("enough"), Phase.CANCELLED),
    (ev.WorkflowTerminated("enough"), Phase.TERMINATED),
    (ev.WorkflowTimedOut(), Phase.TIMED_OUT),
]


def delayed(**started: Any) -> Driven:
    return Driven(delayed_until=NOW + SECOND, **started)


def suspended(**started: Any) -> Driven:
    run = Driven(**started)
    run.record(ev.WorkflowSuspended("the code diverged"))
    return run


@pytest.mark.parametrize(("event", "phase"), ENDS)
def test_a_running_run_can_end_in_five_ways(event: Any, phase: Phase) -> None:
    run = Driven()
    run.at += 7
    run.record(event)
    assert run.state.phase is phase
    assert run.state.closed_at == NOW + 7
    assert run.state.status.is_closed


def test_a_continued_run_has_ended_without_answering_anyone() -> None:
    run = Driven(parent="workflow:child/run-9/1/parent")
    run.schedule()
    run.record(ev.AnswerPromised("r-1", "workflow:message/run-8/1/other"))
    run.record(ev.ChildRequested(1, "parcel", "Parcel", b"[]"))
    run.written.sent.clear()
    run.record(ev.WorkflowContinued(b"[1]", "run-2"))
    assert run.state.phase is Phase.CONTINUED
    assert run.state.next_run_id == "run-2"
    assert run.written.stopped == ["first-1"]
    assert run.written.replies == []
    assert run.written.sent == [], "its children are not stopped"


def test_its_end_drops_activities_and_timers_and_stops_attempts() -> None:
    run = Driven(timeout_us=90 * SECOND)
    run.schedule(1, give_up_after_us=60 * SECOND)
    run.schedule(2)
    run.events(cm.FailActivity, number=2, token="first-2", failure=FailureInfo("builtins:OSError"))
    run.record(ev.TimerStarted(1, NOW + SECOND))
    assert len(run.written.timers) == 4
    run.record(ev.WorkflowCompleted(b"1"))
    assert not run.written.timers
    assert not run.written.tasks
    assert run.written.stopped == ["first-1"]
    assert not run.state.activities
    assert not run.state.timers


def test_a_delayed_run_begins_when_its_time_has_come() -> None:
    run = delayed()
    assert {timer.kind for timer in run.written.timers} == {TimerKind.BEGIN}
    assert run.events(cm.BeginWorkflow) == [], "not early"
    run.at += SECOND
    assert run.events(cm.BeginWorkflow) == [ev.WorkflowBegun()]
    assert run.events(cm.BeginWorkflow) == [], "once"
    assert run.state.phase is Phase.RUNNING
    assert not run.written.timers


def test_a_delayed_run_that_is_cancelled_ends_without_running_code() -> None:
    run = delayed()
    assert run.events(cm.CancelWorkflow, reason="no") == [
        ev.WorkflowCancelRequested("no"),
        ev.WorkflowCancelled("no"),
    ]
    assert run.state.phase is Phase.CANCELLED
    assert not run.written.timers


def test_a_delayed_run_can_be_terminated() -> None:
    run = delayed()
    run.ask(cm.TerminateWorkflow)
    assert run.state.phase is Phase.TERMINATED
    assert not run.written.timers


def test_a_delayed_run_can_time_out() -> None:
    run = delayed(timeout_us=SECOND // 2)
    assert run.events(cm.ExpireWorkflow) == [], "not early"
    run.at += SECOND // 2
    assert run.events(cm.ExpireWorkflow) == [ev.WorkflowTimedOut()]
    assert not run.written.timers


def test_a_suspended_run_says_why_and_forgets_it_when_it_resumes() -> None:
    run = suspended()
    assert (run.state.phase, run.state.reason) == (Phase.SUSPENDED, "the code diverged")
    run.record(ev.WorkflowResumed())
    assert (run.state.phase, run.state.reason) == (Phase.RUNNING, "")


def test_a_suspended_run_can_be_suspended_for_another_reason() -> None:
    run = suspended()
    run.record(ev.WorkflowSuspended("it is gone"))
    assert run.state.reason == "it is gone"


def test_a_suspended_run_takes_messages_and_reports() -> None:
    run = Driven()
    run.schedule()
    run.record(ev.WorkflowSuspended("the code diverged"))
    assert run.events(cm.SignalWorkflow, name="poke") == [ev.SignalReceived("poke", b"[]")]
    assert run.events(cm.CancelWorkflow) == [ev.WorkflowCancelRequested()]
    assert run.complete("first-1") == [ev.ActivityCompleted(1, b"42")]


def test_a_suspended_run_can_be_terminated() -> None:
    run = suspended()
    run.ask(cm.TerminateWorkflow, reason="enough")
    assert (run.state.phase, run.state.reason) == (Phase.TERMINATED, "enough")


def test_a_suspended_run_that_times_out_drops_the_reason_of_its_suspension() -> None:
    run = suspended(timeout_us=SECOND)
    run.at += SECOND
    run.ask(cm.ExpireWorkflow)
    assert (run.state.phase, run.state.reason) == (Phase.TIMED_OUT, "")


def test_code_of_a_suspended_run_does_not_end_it() -> None:
    run = suspended()
    with pytest.raises(KeyError):
        run.record(ev.WorkflowCompleted(b"1"))


@pytest.mark.parametrize(("event", "phase"), ENDS)
def test_nothing_happens_to_a_closed_run(event: Any, phase: Phase) -> None:
    run = Driven(timeout_us=SECOND)
    run.schedule()
    run.record(event)
    run.at += 10 * SECOND
    assert run.events(cm.ExpireWorkflow) == []
    assert run.complete("first-1") == []
    for request in (cm.CancelWorkflow, cm.TerminateWorkflow):
        decision = run.ask(request, request_id="r")
        assert not decision.events
        assert isinstance(decision.reply, Refused)
        assert decision.reply.code == "closed"


def test_every_phase_has_a_public_status() -> None:
    assert STATUS.keys() == set(Phase)
    assert {STATUS[phase].is_closed is phase.is_closed for phase in Phase} == {True}
    assert set(STATUS.values()) == set(Status)
