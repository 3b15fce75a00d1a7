"""A pause of a run: what is still recorded, what holds, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.run import waits_of
from perdure.core.state import Phase
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.replies import Accepted, Refused
from perdure.model.states import Status, Wait
from perdure.model.timers import TimerKind
from tests.unit.core.driven import BROKEN, NOW, SECOND, Driven


def paused(**started: Any) -> Driven:
    run = Driven(**started)
    run.ask(cm.PauseWorkflow, by="ann", reason="the bank is down", request_id="p-1")
    return run


def refusal(run: Driven, kind: Any, **fields: Any) -> str:
    decision = run.ask(kind, request_id="r-9", **fields)
    assert decision.events == ()
    assert isinstance(decision.reply, Refused)
    assert decision.reply.code == "wrong_state"
    return decision.reply.message


def test_a_paused_run_says_who_paused_it_since_when_and_why() -> None:
    run = paused()
    assert (run.state.phase, run.state.status, run.state.reason) == (
        Phase.PAUSED,
        Status.PAUSED,
        "the bank is down",
    )
    assert waits_of(run.state) == (Wait("unpause", "ann", 0, 0, NOW),)


def test_a_paused_run_takes_messages_reports_and_a_cancellation() -> None:
    run = Driven()
    run.schedule()
    run.ask(cm.PauseWorkflow)
    assert run.events(cm.SignalWorkflow, name="poke") == [ev.SignalReceived("poke", b"[]")]
    assert run.events(cm.CancelWorkflow) == [ev.WorkflowCancelRequested()]
    assert run.complete("first-1") == [ev.ActivityCompleted(1, b"42")]


def test_timers_of_a_paused_run_hold_and_are_stored_again_when_it_continues() -> None:
    run = Driven(timeout_us=90 * SECOND)
    run.schedule(1, give_up_after_us=60 * SECOND)
    run.fail("first-1")
    run.record(ev.TimerStarted(1, NOW + SECOND))
    run.record(ev.TokenIssued(1, "s", NOW + 2 * SECOND))
    before = set(run.written.timers)
    assert {timer.kind for timer in before} == {
        TimerKind.CODE, TimerKind.RETRY, TimerKind.GIVE_UP, TimerKind.TIMEOUT, TimerKind.TOKEN,
    }  # fmt: skip
    run.ask(cm.PauseWorkflow)
    assert not run.written.timers
    run.at += 100 * SECOND
    for kind, fields in (
        (cm.FireTimer, {"number": 1}), (cm.RetryActivity, {"number": 1}), (cm.ExpireActivity, {"number": 1}),
        (cm.ExpireToken, {"number": 1}), (cm.ExpireWorkflow, {}),
    ):  # fmt: skip
        assert run.events(kind, **fields) == []
    run.ask(cm.UnpauseWorkflow)
    assert run.written.timers == before
    run.record(ev.WorkflowResumed())
    assert run.events(cm.FireTimer, number=1) == [ev.TimerFired(1)]


def test_a_retry_that_becomes_due_for_an_attempt_that_fails_meanwhile_holds_too() -> None:
    run = Driven()
    run.schedule()
    run.ask(cm.PauseWorkflow)
    run.fail("first-1")
    run.at += 100 * SECOND
    assert run.events(cm.RetryActivity, number=1) == []
    run.ask(cm.UnpauseWorkflow)
    run.record(ev.WorkflowResumed())
    assert run.events(cm.RetryActivity, number=1) == [ev.ActivityRetried(1, 2)]


def test_a_paused_run_is_terminated_at_once() -> None:
    run = paused()
    run.ask(cm.TerminateWorkflow, reason="enough")
    assert (run.state.phase, run.state.reason) == (Phase.TERMINATED, "enough")


def test_who_lets_it_continue_is_recorded_and_its_code_has_something_to_see() -> None:
    run = paused()
    assert run.events(cm.UnpauseWorkflow, by="bob", reason="it is up") == [
        ev.WorkflowUnpaused("bob", "it is up")
    ]
    assert run.state.phase is Phase.SUSPENDED, "until its code was shown what it has missed"


def test_a_repeated_request_acts_once_and_another_one_is_refused() -> None:
    run = paused()
    again = run.ask(cm.PauseWorkflow, by="ann", reason="the bank is down", request_id="p-1")
    assert (again.events, again.reply) == ((), Accepted("p-1", "run-1", is_new=False))
    assert refusal(run, cm.PauseWorkflow) == (
        "workflow 'order-1' is paused already, since 2023-11-14 22:13:20 UTC by ann: the bank is down"
    )
    run.ask(cm.UnpauseWorkflow, request_id="u-1")
    run.record(ev.WorkflowResumed())
    assert run.ask(cm.UnpauseWorkflow, request_id="u-1").reply == Accepted("u-1", "run-1", is_new=False)
    assert refusal(run, cm.UnpauseWorkflow) == "workflow 'order-1' is not paused: it is running"


def test_a_suspended_run_is_not_paused() -> None:
    run = Driven()
    run.record(ev.WorkflowSuspended("the code diverged"))
    assert "is suspended, so its code does not run anyway: the code diverged" in refusal(
        run, cm.PauseWorkflow
    )


@pytest.mark.parametrize("kind", [cm.PauseWorkflow, cm.UnpauseWorkflow])
def test_a_closed_run_is_not_paused(kind: Any) -> None:
    run = paused()
    run.ask(cm.TerminateWorkflow)
    decision = run.ask(kind, request_id="r-9")
    assert isinstance(decision.reply, Refused)
    assert decision.reply.code == "closed"


def delayed() -> Driven:
    run = Driven(delayed_until=NOW + SECOND)
    run.ask(cm.PauseWorkflow, by="ann")
    return run


def test_a_delayed_run_does_not_begin_while_it_is_paused() -> None:
    run = delayed()
    assert (run.state.phase, run.state.status) == (Phase.HELD, Status.PAUSED)
    assert not run.written.timers
    run.at += SECOND
    assert run.events(cm.BeginWorkflow) == []
    run.ask(cm.UnpauseWorkflow)
    assert run.state.phase is Phase.DELAYED
    assert run.events(cm.BeginWorkflow) == [ev.WorkflowBegun()]


def test_a_delayed_run_that_is_paused_ends_when_it_is_cancelled_or_terminated() -> None:
    run = delayed()
    run.ask(cm.CancelWorkflow, reason="no")
    assert run.state.phase is Phase.CANCELLED
    run = delayed()
    run.ask(cm.TerminateWorkflow)
    assert run.state.phase is Phase.TERMINATED


def exhausted(*, count: int = 1) -> Driven:
    """A run whose activities 1 to `count` had one attempt each."""
    run = Driven()
    for number in range(1, count + 1):
        run.schedule(number, maximum_attempts=1, when_exhausted="pause")
    for number in range(1, count + 1):
        run.events(cm.FailActivity, number=number, token=f"first-{number}", failure=BROKEN)
    return run


def test_an_activity_without_attempts_left_pauses_its_run() -> None:
    run = exhausted()
    assert run.state.phase is Phase.PAUSED
    assert run.state.reason == "activity 1 'charge' failed after 1 attempt: ConnectionError: no answer"
    assert waits_of(run.state) == (
        Wait("unpause", "", 1, 0, NOW),
        Wait("decision", "charge", 1, 1, NOW),
    )
    assert not run.written.tasks


def test_a_person_may_pause_a_run_that_an_activity_has_paused() -> None:
    run = exhausted()
    run.ask(cm.PauseWorkflow, by="ann", reason="wait")
    assert (run.state.phase, run.state.reason) == (Phase.PAUSED, "wait")
    assert run.events(cm.RetryActivityNow, number=1)[-1] == ev.ActivityRetried(1, 2)
    assert run.state.phase is Phase.PAUSED, "until ann, or another person, lets it continue"


def test_to_unpause_is_to_retry_what_has_paused_the_run() -> None:
    run = exhausted(count=2)
    kinds = [type(event).__name__ for event in run.events(cm.UnpauseWorkflow, by="ann")]
    assert kinds == ["WorkflowUnpaused", *(["ActivityOverridden", "ActivityRetried"] * 2)]
    assert sorted(run.written.tasks) == [("run-1", 1), ("run-1", 2)]
