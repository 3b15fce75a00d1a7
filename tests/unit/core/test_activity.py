"""The machine of one activity."""

from __future__ import annotations

import pytest

from perdure.core.run import public_state
from perdure.core.state import ActivityStatus
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.failure import FailureInfo
from perdure.model.options import ActivityOptions, RetryPolicy
from perdure.model.timers import TimerKind
from tests.unit.core.driven import NOW, SECOND, Driven, ignored


@pytest.fixture
def run() -> Driven:
    driven = Driven()
    driven.schedule()
    return driven


def start(run: Driven, token: str = "first-1") -> list[object]:
    return run.events(cm.StartActivity, number=1, token=token, worker="worker-1")


def decline(run: Driven, token: str = "first-1", reason: str = "unknown") -> list[object]:
    return run.events(cm.DeclineActivity, number=1, token=token, reason=reason)


def retry(run: Driven) -> list[object]:
    return run.events(cm.RetryActivity, number=1)


def expire_lease(run: Driven, token: str = "first-1") -> list[object]:
    return run.events(cm.ExpireLease, number=1, token=token)


def test_a_scheduled_activity_is_dispatched_immediately(run: Driven) -> None:
    task = run.written.tasks["run-1", 1]
    assert (task.attempt, task.token, task.idempotency_key, task.workflow_type) == (
        1,
        "first-1",
        "run-1/1",
        "Order",
    )
    assert run.state.activities[1].status is ActivityStatus.DISPATCHED


def test_all_attempts_have_the_chosen_idempotency_key() -> None:
    run = Driven()
    run.record(
        ev.ActivityScheduled(
            1, "charge", b"[1]", ActivityOptions(idempotency_key="order-1/charge"), "first-1"
        )
    )
    assert run.written.tasks["run-1", 1].idempotency_key == "order-1/charge"
    run.fail("first-1")
    run.at += SECOND
    retry(run)
    task = run.written.tasks["run-1", 1]
    assert (task.attempt, task.idempotency_key) == (2, "order-1/charge")


def test_its_result_closes_it_and_ends_its_task(run: Driven) -> None:
    assert run.complete("first-1") == [ev.ActivityCompleted(1, b"42")]
    assert not run.state.activities
    assert not run.written.tasks


def test_an_attempt_that_runs_long_is_started_once(run: Driven) -> None:
    assert start(run) == [ev.ActivityStarted(1, 1, "worker-1")]
    assert start(run) == []
    assert run.state.activities[1].status is ActivityStatus.STARTED
    assert ("run-1", 1) in run.written.tasks, "it is found again after a crash"


def test_a_started_attempt_completes(run: Driven) -> None:
    start(run)
    assert run.complete("first-1") == [ev.ActivityCompleted(1, b"42")]


def test_a_failed_attempt_backs_off_under_a_new_token(run: Driven) -> None:
    (event,) = run.fail("first-1")
    assert isinstance(event, ev.ActivityAttemptFailed)
    assert (event.retry_at, event.token) == (NOW + SECOND, "next-1")
    assert not run.written.tasks
    assert {timer.kind for timer in run.written.timers} == {TimerKind.RETRY}


def test_a_started_attempt_that_fails_backs_off_too(run: Driven) -> None:
    start(run)
    (event,) = run.fail("first-1")
    assert isinstance(event, ev.ActivityAttemptFailed)
    assert run.state.activities[1].worker == ""


def test_after_the_interval_the_next_attempt_is_dispatched(run: Driven) -> None:
    run.fail("first-1")
    run.at += SECOND
    assert retry(run) == [ev.ActivityRetried(1, 2)]
    task = run.written.tasks["run-1", 1]
    assert (task.attempt, task.token, task.idempotency_key) == (2, "next-1", "run-1/1")
    assert not run.written.timers


def test_a_retry_is_never_early(run: Driven) -> None:
    run.fail("first-1")
    run.at += SECOND - 1
    assert retry(run) == []


def test_a_retry_timer_is_ignored_while_an_attempt_runs(run: Driven) -> None:
    assert retry(run) == []


def test_in_back_off_no_report_counts(run: Driven) -> None:
    run.fail("first-1")
    assert ignored(run.complete("first-1")) == "activity 1 is in another attempt"
    assert ignored(run.complete("next-1")) == "activity 1 is in another attempt"
    assert ignored(run.fail("next-1")) == "activity 1 is in another attempt"


def test_a_forged_token_is_ignored(run: Driven) -> None:
    assert ignored(run.complete("forged")) == "activity 1 is in another attempt"


def test_a_second_result_is_ignored(run: Driven) -> None:
    run.complete("first-1")
    assert ignored(run.complete("first-1")) == "activity 1 is closed"
    assert ignored(run.fail("first-1")) == "activity 1 is closed"


def test_a_final_failure_closes_it(run: Driven) -> None:
    assert run.fail("first-1", FailureInfo("app:Declined", is_final=True)) == [
        ev.ActivityFailed(1, FailureInfo("app:Declined", is_final=True), 1)
    ]
    assert not run.written.tasks


def test_a_final_failure_of_a_started_attempt_closes_it(run: Driven) -> None:
    start(run)
    (event,) = run.fail("first-1", FailureInfo("app:Declined", is_final=True))
    assert isinstance(event, ev.ActivityFailed)


def test_a_last_attempt_that_timed_out_says_so() -> None:
    run = Driven()
    run.schedule(maximum_attempts=1)
    (event,) = run.fail("first-1", FailureInfo("builtins:TimeoutError"), timed_out=True)
    assert isinstance(event, ev.ActivityFailed)
    assert event.timed_out


def test_cancelling_an_attempt_that_is_out_closes_it_and_asks_the_worker_to_stop(run: Driven) -> None:
    run.record(ev.ActivityCancelRequested(1))
    assert not run.state.activities
    assert not run.written.tasks
    assert run.written.stopped == ["first-1"]
    assert ignored(run.complete("first-1")) == "activity 1 is closed"


def test_cancelling_a_started_attempt_does_the_same(run: Driven) -> None:
    start(run)
    run.record(ev.ActivityCancelRequested(1))
    assert run.written.stopped == ["first-1"]


def test_cancelling_in_back_off_drops_the_retry_and_sends_no_cancellation(run: Driven) -> None:
    run.fail("first-1")
    run.record(ev.ActivityCancelRequested(1))
    assert not run.written.timers
    assert run.written.stopped == []
    run.at += SECOND
    assert retry(run) == []


def test_a_declined_task_stays_dispatched_and_is_offered_again(run: Driven) -> None:
    (event,) = decline(run)
    assert isinstance(event, ev.ActivityDeclined)
    assert event.retry_at > NOW
    assert ("run-1", 1) in run.written.tasks
    assert decline(run, reason="still unknown") == [], "once is enough until it is offered again"
    run.at = event.retry_at
    assert retry(run) == [ev.ActivityRetried(1, 1)]
    assert run.written.tasks["run-1", 1].token == "first-1"
    assert decline(run) != []


def test_a_declined_task_may_be_taken_by_another_worker(run: Driven) -> None:
    decline(run)
    assert start(run) == [ev.ActivityStarted(1, 1, "worker-1")]
    assert not run.written.timers, "it is not offered again"
    assert run.state.activities[1].declined == ""
    assert [wait.due_at for wait in public_state(run.state, b"").waits] == [0], "an attempt is out"
    assert decline(run) == [], "it runs"


def test_a_declined_task_completes_and_is_not_offered_again(run: Driven) -> None:
    decline(run)
    assert run.complete("first-1") == [ev.ActivityCompleted(1, b"42")]
    assert not run.written.timers


def test_a_declined_task_that_fails_elsewhere_has_one_retry(run: Driven) -> None:
    decline(run)
    run.fail("first-1")
    assert {timer.fires_at for timer in run.written.timers} == {NOW + SECOND}


def test_a_declined_task_is_offered_ever_more_rarely(run: Driven) -> None:
    waits: list[int] = []
    for _ in range(12):
        (event,) = decline(run)
        assert isinstance(event, ev.ActivityDeclined)
        waits.append((event.retry_at - run.at) // SECOND)
        run.at = event.retry_at
        retry(run)
    assert waits == [10, 10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000, 1000]


def test_silence_of_a_leased_attempt_is_a_failure(run: Driven) -> None:
    start(run)
    (event,) = expire_lease(run)
    assert isinstance(event, ev.ActivityAttemptFailed)
    assert event.failure.message == "no heartbeat from worker worker-1"


@pytest.mark.parametrize("token", ["first-1", "forged"])
def test_lease_expiry_is_ignored_for_an_unleased_attempt(run: Driven, token: str) -> None:
    assert expire_lease(run, token) == []


def test_a_heartbeat_leaves_no_event(run: Driven) -> None:
    assert run.events(cm.HeartbeatActivity, number=1, token="first-1") == []


def test_give_up_after_ends_an_attempt_that_is_out() -> None:
    run = Driven()
    run.schedule(give_up_after_us=5 * SECOND)
    assert {(timer.kind, timer.fires_at) for timer in run.written.timers} == {
        (TimerKind.GIVE_UP, NOW + 5 * SECOND)
    }
    run.at += 5 * SECOND
    (event,) = run.events(cm.ExpireActivity, number=1)
    assert isinstance(event, ev.ActivityFailed)
    assert event.timed_out
    assert not run.written.timers
    assert not run.written.tasks
    assert run.events(cm.ExpireActivity, number=1) == []


def test_give_up_after_ends_a_back_off_and_names_the_last_failure() -> None:
    run = Driven()
    run.schedule(give_up_after_us=5 * SECOND)
    run.fail("first-1")
    run.at += 5 * SECOND
    (event,) = run.events(cm.ExpireActivity, number=1)
    assert isinstance(event, ev.ActivityFailed)
    assert "no answer" in event.failure.message
    assert not run.written.timers


def test_an_illegal_event_is_a_bug_and_raises(run: Driven) -> None:
    run.fail("first-1")
    with pytest.raises(KeyError):
        run.record(ev.ActivityStarted(1, 1, "worker-1"))


def once(run: Driven) -> None:
    options = ActivityOptions(at_most_once=True, retry=RetryPolicy(maximum_attempts=1))
    run.record(ev.ActivityScheduled(2, "pay", b"[1]", options, "second-1"))


def test_a_task_says_that_it_may_not_run_twice(run: Driven) -> None:
    once(run)
    task = run.written.tasks["run-1", 2]
    assert (task.is_at_most_once, task.is_unknown) == (True, False)
    assert not run.written.tasks["run-1", 1].is_at_most_once


def test_after_a_lost_lease_the_outcome_of_one_at_most_once_is_unknown(run: Driven) -> None:
    once(run)
    run.events(cm.StartActivity, number=2, token="second-1", worker="worker-1 ab")
    (failed,) = run.events(cm.ExpireLease, number=2, token="second-1")
    assert isinstance(failed, ev.ActivityAttemptFailed)  # an attempt that only asks
    assert failed.failure.type == "perdure.errors:OutcomeUnknown"
    run.at = failed.retry_at
    run.events(cm.RetryActivity, number=2)
    task = run.written.tasks["run-1", 2]
    assert (task.attempt, task.is_at_most_once, task.is_unknown) == (2, True, True)


def test_the_first_claim_of_an_attempt_counts(run: Driven) -> None:
    once(run)
    assert run.events(cm.StartActivity, number=2, token="second-1", worker="a")
    assert not run.events(cm.StartActivity, number=2, token="second-1", worker="b")
    assert run.state.activities[2].worker == "a"
