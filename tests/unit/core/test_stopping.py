"""An activity whose wait was cancelled: its end is waited for, or it is left alone."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.machines.activity import STOPPED
from perdure.core.run import waits_of
from perdure.core.state import ActivityStatus
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.failure import FailureInfo
from perdure.model.options import ActivityOptions, RetryPolicy
from perdure.model.timers import TimerKind
from perdure.model.tokens import of_attempt
from tests.unit.core.driven import BROKEN, NOW, SECOND, Driven, ignored

CANCELLED = FailureInfo(STOPPED, "the activity was asked to stop")


def driven(on_cancel: str = "wait", **policy: Any) -> Driven:
    run = Driven()
    options = ActivityOptions(retry=RetryPolicy(**policy), on_cancel=on_cancel)
    run.record(ev.ActivityScheduled(1, "charge", b"[1]", options, "first-1"))
    return run


def start(run: Driven, token: str = "first-1") -> list[Any]:
    return run.events(cm.StartActivity, number=1, token=token, worker="worker-1")


@pytest.fixture
def run() -> Driven:
    return driven()


@pytest.fixture
def stopping(run: Driven) -> Driven:
    run.record(ev.ActivityStopRequested(1))
    return run


def is_over(run: Driven) -> bool:
    return not run.state.activities and not run.written.tasks and not run.written.timers


def test_only_a_task_whose_end_is_waited_for_reports_that_it_has_stopped() -> None:
    assert driven().written.tasks["run-1", 1].reports_stop
    assert not driven("ask").written.tasks["run-1", 1].reports_stop


def test_the_worker_is_asked_to_stop_and_the_run_still_waits(stopping: Driven) -> None:
    assert stopping.written.stopped == ["first-1"]
    assert stopping.state.activities[1].status is ActivityStatus.STOPPING
    assert ("run-1", 1) in stopping.written.tasks, "it is found again after a crash"
    assert [wait.kind for wait in waits_of(stopping.state)] == ["activity"]


def test_an_attempt_that_stops_ends_it(stopping: Driven) -> None:
    assert stopping.fail("first-1", CANCELLED) == [ev.ActivityCancelled(1)]
    assert is_over(stopping)


def test_an_attempt_that_had_succeeded_meanwhile_completes_it(stopping: Driven) -> None:
    assert stopping.complete("first-1") == [ev.ActivityCompleted(1, b"42")]
    assert is_over(stopping)


def test_an_attempt_that_fails_while_it_stops_is_not_retried(stopping: Driven) -> None:
    assert stopping.fail("first-1") == [ev.ActivityFailed(1, BROKEN, 1)]
    assert is_over(stopping)


def test_an_attempt_that_is_started_stops_too(run: Driven) -> None:
    start(run)
    run.record(ev.ActivityStopRequested(1))
    assert start(run) == []
    assert run.fail("first-1", CANCELLED) == [ev.ActivityCancelled(1)]
    assert is_over(run)


def test_an_attempt_that_stops_slowly_is_leased_and_its_dead_worker_ends_it(stopping: Driven) -> None:
    expire = {"number": 1, "token": "first-1"}
    assert stopping.events(cm.ExpireLease, **expire) == [], "it may not have begun"
    assert start(stopping) == [ev.ActivityStarted(1, 1, "worker-1")]
    assert start(stopping) == []
    (event,) = stopping.events(cm.ExpireLease, **expire)
    assert event == ev.ActivityCancelled(1, "no heartbeat from worker worker-1")
    assert is_over(stopping)


def test_an_activity_that_backs_off_ends_without_another_attempt(run: Driven) -> None:
    run.fail("first-1")
    run.record(ev.ActivityStopRequested(1))
    assert {(timer.kind, timer.fires_at) for timer in run.written.timers} == {(TimerKind.RETRY, NOW)}
    assert run.events(cm.RetryActivity, number=1) == [ev.ActivityCancelled(1, "no attempt was running")]
    assert is_over(run)


def test_a_declined_task_ends_without_a_worker(run: Driven) -> None:
    run.events(cm.DeclineActivity, number=1, token="first-1", reason="unknown")
    run.record(ev.ActivityStopRequested(1))
    assert run.events(cm.DeclineActivity, number=1, token="first-1", reason="unknown") == []
    assert run.events(cm.RetryActivity, number=1) == [ev.ActivityCancelled(1, "no attempt was running")]
    assert is_over(run)


def test_a_worker_that_declines_it_while_it_stops_ends_it(stopping: Driven) -> None:
    declined = stopping.events(cm.DeclineActivity, number=1, token="first-1", reason="unknown")
    assert declined == [ev.ActivityCancelled(1, "unknown")]
    assert is_over(stopping)


def test_an_answer_from_outside_is_not_waited_for(run: Driven) -> None:
    run.events(cm.DeferActivity, number=1, token="first-1")
    run.record(ev.ActivityStopRequested(1))
    text = of_attempt("order-1", "run-1", 1, "first-1", is_public=False).text
    assert run.ask(cm.ResolveToken, token=text, value=b"1").events == ()
    assert run.events(cm.RetryActivity, number=1) == [ev.ActivityCancelled(1, "no attempt was running")]
    assert is_over(run)


def test_an_attempt_that_leaves_its_result_for_later_while_it_stops_has_ended(stopping: Driven) -> None:
    (event,) = stopping.events(cm.DeferActivity, number=1, token="first-1")
    assert event == ev.ActivityCancelled(1, "its result was to come later")
    assert is_over(stopping)


def test_the_time_of_all_attempts_ends_it() -> None:
    run = driven(give_up_after_us=SECOND)
    run.record(ev.ActivityStopRequested(1))
    run.at += SECOND
    (event,) = run.events(cm.ExpireActivity, number=1)
    assert isinstance(event, ev.ActivityFailed)
    assert is_over(run)


def test_a_report_of_what_has_stopped_is_ignored(stopping: Driven) -> None:
    stopping.fail("first-1", CANCELLED)
    assert ignored(stopping.complete("first-1")) == "activity 1 is closed"


@pytest.mark.parametrize("status", ["dispatched", "started", "backing off", "deferred", "stopping"])
def test_an_abandoned_activity_is_not_waited_for_and_continues(status: str) -> None:
    run = driven("abandon")
    match status:
        case "started":
            start(run)
        case "backing off":
            run.fail("first-1")
        case "deferred":
            run.events(cm.DeferActivity, number=1, token="first-1")
        case "stopping":
            run.record(ev.ActivityStopRequested(1))
        case _:
            pass
    before = run.state.activities[1].status
    run.record(ev.ActivityAbandoned(1))
    assert run.state.activities[1].status is before
    assert waits_of(run.state) == ()
    assert run.written.stopped == (["first-1"] if status == "stopping" else [])
    if status == "backing off":
        run.at += SECOND
        assert run.events(cm.RetryActivity, number=1) == [ev.ActivityRetried(1, 2)]
        assert run.complete("next-1") == [ev.ActivityCompleted(1, b"42")]
    elif status != "deferred":
        assert run.complete("first-1") == [ev.ActivityCompleted(1, b"42")]


def test_when_the_run_closes_an_abandoned_attempt_may_end_and_others_are_stopped() -> None:
    run = driven("abandon")
    run.schedule(2)
    run.record(ev.ActivityAbandoned(1))
    run.record(ev.WorkflowCompleted(b"null"))
    assert run.written.stopped == ["first-2"]
    assert is_over(run)
    assert run.state.abandoned == {1}, "its heartbeats do not stop it"
