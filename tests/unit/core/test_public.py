"""The public state of a run."""

from __future__ import annotations

from perdure.core.run import public_state
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.failure import FailureInfo
from perdure.model.states import WAITS_TOLD, Status, Wait
from tests.unit.core.driven import NOW, SECOND, Driven


def test_of_many_timers_the_next_ones_are_listed_in_their_order() -> None:
    run = Driven()
    for number in range(1, WAITS_TOLD + 6):
        run.record(ev.TimerStarted(number, NOW + (100 - number) * SECOND))
    told = public_state(run.state, b"").waits
    assert [wait.number for wait in told] == [*range(WAITS_TOLD + 5, 5, -1)]
    assert told[0] == Wait("timer", "", WAITS_TOLD + 5, due_at=NOW + (100 - WAITS_TOLD - 5) * SECOND)


def test_activities_are_listed_before_timers() -> None:
    run = Driven()
    run.record(ev.TimerStarted(1, NOW + SECOND))
    for number in range(1, WAITS_TOLD):
        run.schedule(number)
    run.at += SECOND
    run.fail("first-1")
    told = public_state(run.state, b"").waits
    assert [(wait.kind, wait.number) for wait in told] == [
        *(("activity", number) for number in range(1, WAITS_TOLD)),
        ("timer", 1),
    ]
    assert told[0] == Wait("activity", "charge", 1, 1, NOW, NOW + 2 * SECOND)
    run.schedule(WAITS_TOLD)
    assert len(public_state(run.state, b"").waits) == WAITS_TOLD, "there is no room for the timer"


def test_a_run_that_has_not_begun_waits_for_its_start_alone() -> None:
    run = Driven(delayed_until=NOW + SECOND)
    assert public_state(run.state, b"").waits == (Wait("start", "", 0, due_at=NOW + SECOND),)


def test_it_says_when_the_run_started_moved_last_and_ended_and_how() -> None:
    run = Driven(attributes=b'{"city":"Bari"}')
    run.at += SECOND
    run.ask(cm.SignalWorkflow, name="poke")
    open_ = public_state(run.state, b"7")
    assert (open_.type, open_.status, open_.view, open_.attributes) == (
        "Order",
        Status.RUNNING,
        b"7",
        b'{"city":"Bari"}',
    )
    assert (open_.started_at, open_.updated_at, open_.closed_at, open_.history_length) == (
        NOW,
        NOW + SECOND,
        0,
        2,
    )
    run.at += SECOND
    failure = FailureInfo("builtins:KeyError", "no oven")
    run.record(ev.WorkflowFailed(failure))
    closed = public_state(run.state, b"7")
    assert (closed.status, closed.failure, closed.closed_at, closed.history_length) == (
        Status.FAILED,
        failure,
        run.at,
        3,
    )


def test_why_a_run_is_suspended_counts_for_more_than_what_is_wrong_with_its_view() -> None:
    run = Driven()
    assert public_state(run.state, b"", "the view is broken").reason == "the view is broken"
    run.record(ev.WorkflowSuspended("it diverged"))
    assert public_state(run.state, b"", "the view is broken").reason == "it diverged"
