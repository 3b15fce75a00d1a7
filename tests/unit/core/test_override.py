"""An operator's decisions about activities."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.state import ActivityStatus, Phase
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.failure import FailureInfo
from perdure.model.replies import Accepted, Refused
from tests.unit.core.driven import BROKEN, NOW, SECOND, Driven
from tests.unit.core.test_pause import exhausted, refusal

FAILED = FailureInfo("app:Sad", "it is lost")


def status(run: Driven, number: int = 1) -> ActivityStatus:
    return run.state.activities[number].status


def names(events: list[Any]) -> list[str]:
    return [type(event).__name__ for event in events]


def test_a_failure_that_is_never_retried_goes_to_the_code() -> None:
    run = Driven()
    run.schedule(maximum_attempts=3, when_exhausted="pause", never=("app:Sad",))
    assert names(run.fail("first-1", FAILED)) == ["ActivityFailed"]
    assert run.state.phase is Phase.RUNNING


@pytest.mark.parametrize("began", [False, True])
def test_attempts_end_and_the_last_failure_is_kept(began: bool) -> None:
    run = Driven()
    run.schedule(maximum_attempts=1, when_exhausted="pause")
    if began:
        run.ask(cm.StartActivity, number=1, token="first-1", worker="w-1")
    event, pause = run.fail("first-1")
    assert event == ev.ActivityExhausted(1, BROKEN, 1, "next-1")
    assert isinstance(pause, ev.WorkflowPaused)
    assert run.written.failures[0] == (event, "charge")
    assert names(run.complete("first-1")) == ["CommandIgnored"], "the attempt is over"
    assert names(run.complete("next-1")) == ["CommandIgnored"], "the next one has not begun"


def test_the_time_for_all_attempts_pauses_the_run_and_stops_the_attempt() -> None:
    run = Driven()
    run.schedule(give_up_after_us=SECOND, when_exhausted="pause")
    run.at += SECOND
    event, _ = run.events(cm.ExpireActivity, number=1)
    assert isinstance(event, ev.ActivityExhausted)
    assert event.timed_out
    assert run.written.stopped == ["first-1"]
    assert not run.written.timers


def test_the_time_for_all_attempts_may_end_between_two() -> None:
    run = Driven()
    run.schedule(give_up_after_us=SECOND, first_interval_us=SECOND // 2, when_exhausted="pause")
    run.fail("first-1")
    run.at += SECOND
    assert names(run.events(cm.ExpireActivity, number=1)) == ["ActivityExhausted", "WorkflowPaused"]
    assert run.events(cm.ExpireActivity, number=1) == [], "once"


def test_an_answer_from_outside_that_does_not_come_pauses_the_run() -> None:
    run = Driven()
    run.schedule(maximum_attempts=1, when_exhausted="pause")
    run.ask(cm.DeferActivity, number=1, token="first-1")
    run.at += 60 * SECOND
    assert names(run.events(cm.ExpireAnswer, number=1)) == ["ActivityExhausted", "WorkflowPaused"]


def test_a_retry_has_the_attempts_of_its_policy_again_and_continues_the_run() -> None:
    run = exhausted()
    events = run.events(
        cm.RetryActivityNow, number=1, by="ann", reason="fixed", maximum_attempts=2, timeout_us=5, queue="q-2"
    )
    assert names(events) == ["ActivityOverridden", "ActivityRetried", "WorkflowUnpaused"]
    assert (events[0].by, events[0].reason) == ("ann", "fixed")
    task = run.written.tasks["run-1", 1]
    assert (task.attempt, task.queue, task.timeout_us, task.token) == (2, "q-2", 5, events[0].token)
    run.record(ev.WorkflowResumed())
    assert names(run.fail(task.token)) == ["ActivityAttemptFailed"], "the first of two"
    run.at += 100 * SECOND
    run.ask(cm.RetryActivity, number=1)
    token = run.state.activities[1].token
    assert names(run.fail(token)) == ["ActivityExhausted", "WorkflowPaused"]


def test_the_run_continues_with_the_last_decision() -> None:
    run = exhausted(count=2)
    assert names(run.events(cm.RetryActivityNow, number=2))[-1] == "ActivityRetried"
    assert run.state.phase is Phase.PAUSED
    events = run.events(cm.ResolveActivity, number=1, value=b"7", by="ann")
    assert events[1:] == [ev.ActivityCompleted(1, b"7"), ev.WorkflowUnpaused("ann")]


def test_an_operator_lets_it_fail() -> None:
    run = exhausted()
    events = run.events(cm.RejectActivity, number=1, failure=FAILED)
    assert events[1:] == [ev.ActivityFailed(1, FAILED, 1), ev.WorkflowUnpaused()]


def test_an_activity_that_waits_for_its_next_attempt_is_retried_now() -> None:
    run = Driven()
    run.schedule(give_up_after_us=60 * SECOND)
    run.fail("first-1")
    run.at += 1
    assert names(run.events(cm.RetryActivityNow, number=1)) == ["ActivityOverridden", "ActivityRetried"]
    (timer,) = run.written.timers
    assert timer.fires_at == NOW + 1 + 60 * SECOND, "its time begins again"
    assert run.written.tasks["run-1", 1].attempt == 2


def test_an_activity_that_waits_for_its_next_attempt_gets_a_result() -> None:
    run = Driven()
    run.schedule()
    run.fail("first-1")
    assert names(run.events(cm.ResolveActivity, number=1)) == ["ActivityOverridden", "ActivityCompleted"]
    assert not run.written.timers


def test_an_attempt_that_runs_is_stopped_when_an_operator_gives_the_result() -> None:
    run = Driven()
    run.schedule()
    run.ask(cm.ResolveActivity, number=1)
    assert run.written.stopped == ["first-1"]
    assert not run.written.tasks


def test_a_declined_activity_moves_to_another_queue() -> None:
    run = Driven()
    run.schedule(maximum_attempts=1)
    run.ask(cm.DeclineActivity, number=1, token="first-1", reason="unknown here")
    run.ask(cm.RetryActivityNow, number=1, queue="q-2")
    task = run.written.tasks["run-1", 1]
    assert (task.attempt, task.queue, task.token) == (1, "q-2", "next-1")
    assert not run.written.timers


def test_decisions_that_do_not_fit_are_refused() -> None:
    run = Driven()
    run.schedule()
    assert "attempt 1 has not ended" in refusal(run, cm.RetryActivityNow, number=1)
    assert "it is not open; open are: 1 (charge)" in refusal(run, cm.ResolveActivity, number=7)
    assert "it is not open" in refusal(run, cm.RejectActivity, number=7, failure=FAILED)
    assert "it is not open" in refusal(run, cm.RetryActivityNow, number=7)
    run.record(ev.ActivityStopRequested(1))
    assert "attempt 1 was asked to stop" in refusal(run, cm.RetryActivityNow, number=1)
    step = Driven()
    step.schedule(queue="")
    step.fail("first-1")
    assert "it has no queue" in refusal(step, cm.RetryActivityNow, number=1, queue="q")


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (cm.RetryActivityNow, {"queue": "q"}),
        (cm.ResolveActivity, {}),
        (cm.RejectActivity, {"failure": FAILED}),
    ],
)
def test_a_repeated_decision_acts_once(kind: Any, fields: dict[str, Any]) -> None:
    run = exhausted()
    run.ask(kind, number=1, request_id="r-1", **fields)
    again = run.ask(kind, number=1, request_id="r-1", **fields)
    assert (again.events, again.reply) == ((), Accepted("r-1", "run-1", is_new=False))
    other = run.ask(kind, number=2, request_id="r-1", **fields)
    assert isinstance(other.reply, Refused)


@pytest.mark.parametrize(
    ("event", "after"),
    [
        (ev.ActivityCancelRequested(1), None),
        (ev.ActivityStopRequested(1), ActivityStatus.STOPPING),
        (ev.ActivityAbandoned(1), ActivityStatus.EXHAUSTED),
    ],
)
def test_code_that_continues_may_cancel_what_waits_for_a_decision(
    event: Any, after: ActivityStatus | None
) -> None:
    run = exhausted()
    run.record(event)
    assert (run.state.activities[1].status if run.state.activities else None) is after
    if after is ActivityStatus.STOPPING:
        run.record(ev.WorkflowUnpaused())
        run.record(ev.WorkflowResumed())
        assert names(run.events(cm.RetryActivity, number=1)) == ["ActivityCancelled"]
