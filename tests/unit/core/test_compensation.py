"""The machine of one compensation."""

from __future__ import annotations

import pytest

from perdure.core.machines.compensation import SAID_BYTES, Compensations
from perdure.core.run import public_state, waits_of
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.failure import FailureInfo
from perdure.model.states import Wait
from tests.unit.core.driven import BROKEN, NOW, SECOND, Driven


@pytest.fixture
def run() -> Driven:
    driven = Driven()
    driven.record(ev.CompensationAttemptFailed(1, "refund", 1, BROKEN, NOW + SECOND))
    return driven


def test_one_that_has_failed_is_waited_for_with_its_next_attempt(run: Driven) -> None:
    assert waits_of(run.state) == (Wait("compensation", "refund", 1, 2, NOW, NOW + SECOND),)
    run.record(ev.CompensationAttemptFailed(1, "refund", 2, BROKEN, NOW + 3 * SECOND))
    assert waits_of(run.state) == (Wait("compensation", "refund", 1, 3, NOW, NOW + 3 * SECOND),)
    assert run.state.part(Compensations)[1].failure == BROKEN


def test_one_that_fails_the_first_time_is_named_too() -> None:
    run = Driven()
    run.record(ev.CompensationFailed(1, "refund", BROKEN, 1))
    assert public_state(run.state, b"").reason == "not undone: refund: ConnectionError: no answer"


def test_one_that_completes_is_forgotten(run: Driven) -> None:
    run.record(ev.CompensationCompleted(1))
    assert waits_of(run.state) == ()
    assert public_state(run.state, b"").reason == ""


def test_one_that_fails_is_named_in_the_public_state_from_then_on(run: Driven) -> None:
    said = "not undone: refund: ConnectionError: no answer"
    run.record(ev.CompensationFailed(1, "refund", BROKEN, 3))
    assert (waits_of(run.state), public_state(run.state, b"").reason) == ((), said)
    run.record(ev.WorkflowCancelRequested("rain"))
    run.record(ev.WorkflowCancelled("rain"))
    assert public_state(run.state, b"").reason == f"rain; {said}"


def test_many_that_fail_are_named_as_far_as_there_is_room() -> None:
    run = Driven()
    for number in range(1, 1_000):
        run.record(ev.CompensationFailed(number, "refund", FailureInfo("app:Sad", "x" * 1_000), 1))
    reason = public_state(run.state, b"").reason
    assert reason.startswith("not undone: refund: Sad: xxx")
    assert len(reason.encode()) <= SAID_BYTES


def test_a_run_that_closes_waits_for_none(run: Driven) -> None:
    run.record(ev.WorkflowTerminated("fire"))
    assert not run.state.part(Compensations)


def test_one_that_is_over_does_not_complete_again(run: Driven) -> None:
    run.record(ev.CompensationCompleted(1))
    with pytest.raises(KeyError):
        run.record(ev.CompensationCompleted(1))


def test_a_storm_of_cancellations_is_answered_and_hardly_recorded() -> None:
    run = Driven()
    recorded = 0
    for number in range(1_000):
        decision = run.ask(cm.CancelWorkflow, request_id=f"cancel-{number}")
        assert decision.reply is not None
        recorded += len(decision.events)
    assert recorded == 10
    run.at += SECOND
    assert len(run.events(cm.CancelWorkflow, request_id="later")) == 1
    assert run.events(cm.CancelWorkflow, request_id="at once") == []
