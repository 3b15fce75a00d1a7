"""The machine of one activity, from scheduled to closed.

A report counts only under the token of the attempt that is out; a closed activity is forgotten, so that whatever comes late finds
nothing and is ignored. Cancelling closes it at once: the run goes on, the worker is asked to stop.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from perdure.model import events as ev
from perdure.model.duration import LONGEST_US
from perdure.model.failure import BRIEF_BYTES, FailureInfo, bounded, members_of
from perdure.model.options import ActivityOptions, RetryPolicy
from perdure.model.tasks import Task


class ActivityStatus(IntEnum):
    """Where an activity is."""

    DISPATCHED = 1
    STARTED = 2
    BACKING_OFF = 3
    COMPLETED = 4
    FAILED = 5
    CANCELLED = 6


_S = ActivityStatus

TRANSITIONS: Final[dict[tuple[ActivityStatus, type[ev.Event]], ActivityStatus]] = {
    (_S.DISPATCHED, ev.ActivityStarted): _S.STARTED,
    (_S.DISPATCHED, ev.ActivityDeclined): _S.DISPATCHED,
    (_S.DISPATCHED, ev.ActivityRetried): _S.DISPATCHED,
    (_S.DISPATCHED, ev.ActivityAttemptFailed): _S.BACKING_OFF,
    (_S.DISPATCHED, ev.ActivityCompleted): _S.COMPLETED,
    (_S.DISPATCHED, ev.ActivityFailed): _S.FAILED,
    (_S.DISPATCHED, ev.ActivityCancelRequested): _S.CANCELLED,
    (_S.STARTED, ev.ActivityAttemptFailed): _S.BACKING_OFF,
    (_S.STARTED, ev.ActivityCompleted): _S.COMPLETED,
    (_S.STARTED, ev.ActivityFailed): _S.FAILED,
    (_S.STARTED, ev.ActivityCancelRequested): _S.CANCELLED,
    (_S.BACKING_OFF, ev.ActivityRetried): _S.DISPATCHED,
    (_S.BACKING_OFF, ev.ActivityFailed): _S.FAILED,
    (_S.BACKING_OFF, ev.ActivityCancelRequested): _S.CANCELLED,
}

DECLINED_US: Final = 10_000_000
"""The least time before a declined task is dispatched again; the longest is a hundred times this."""
FULL_FAILURES: Final = 10
"""Attempts whose failures are recorded in full; of later ones that differ, a kilobyte is: an activity that fails for a week makes 6,000."""
NEVER_RETRIED: Final = frozenset({"perdure.errors:UsageError", "perdure.errors:PayloadError"})
"""The author's mistakes: another attempt would fail in the same way."""


class ActivityState:
    """An open activity.

    Attributes:
        failure: of the last attempt that failed.
        failed: the attempt that `failure` was recorded with; 0 when none has failed.
        token: of the attempt that is out; in back-off, of the next one.
        retry_at: when it is dispatched again, microseconds; 0 unless it backs off or was declined.
        declined: why a worker would not take it; empty when none has refused.
    """

    __slots__ = (
        "attempt",
        "declined",
        "failed",
        "failure",
        "input",
        "name",
        "number",
        "options",
        "retry_at",
        "scheduled_at",
        "status",
        "token",
        "worker",
    )

    def __init__(self, scheduled: ev.ActivityScheduled, at: int) -> None:
        self.number = scheduled.number
        self.name = scheduled.name
        self.input = scheduled.input
        self.options: ActivityOptions = scheduled.options
        self.token = scheduled.token
        self.scheduled_at = at
        self.status: ActivityStatus = _S.DISPATCHED
        self.attempt = 1
        self.retry_at = 0
        self.failure: FailureInfo | None = None
        self.failed = 0
        self.worker = ""
        self.declined = ""

    def evolve(self, event: ev.Event) -> bool:
        """Take over an event; whether the activity is still open.

        Raises:
            KeyError: the table has no such row: a bug of ours.
        """
        self.status = TRANSITIONS[self.status, type(event)]
        match event:
            case ev.ActivityStarted():
                self.worker, self.declined, self.retry_at = event.worker, "", 0
            case ev.ActivityDeclined():
                self.declined, self.retry_at = event.reason, event.retry_at
            case ev.ActivityAttemptFailed():
                self.retry_at, self.token = event.retry_at, event.token
                if not event.same_as:
                    self.failure, self.failed = event.failure, event.attempt
                self.worker = self.declined = ""
            case ev.ActivityRetried():
                self.attempt, self.retry_at, self.declined = event.attempt, 0, ""
            case _:
                return False
        return True

    def task(self, workflow_id: str, run_id: str, workflow_type: str, trace: str = "") -> Task:
        """The dispatch of the current attempt."""
        options = self.options
        return Task(
            workflow_id,
            run_id,
            self.number,
            self.attempt,
            self.token,
            self.name,
            options.queue,
            self.input,
            options.timeout_us,
            options.idempotency_key or f"{run_id}/{self.number}",
            self.scheduled_at,
            workflow_type=workflow_type,
            trace=trace,
        )


def after_failure(activity: ActivityState, failure: FailureInfo, at: int, *, timed_out: bool, token: str) -> ev.Event:
    """What the failure of an attempt leads to: another attempt, or the end.

    Args:
        activity: the failed one.
        failure: of the attempt.
        at: now, microseconds.
        timed_out: the attempt's time was up.
        token: for the next attempt, if there is one.
    """
    failure = bounded(failure)
    policy = activity.options.retry
    if not _is_final(policy, failure, activity.attempt):
        retry_at = at + interval_us(policy, activity.attempt, failure.retry_after_us)
        if not policy.give_up_after_us or retry_at < activity.scheduled_at + policy.give_up_after_us:
            return _attempt_failed(activity, failure, retry_at, token)
    return ev.ActivityFailed(activity.number, failure, activity.attempt, timed_out)


def _attempt_failed(activity: ActivityState, failure: FailureInfo, retry_at: int, token: str) -> ev.ActivityAttemptFailed:
    """The event; a failure that is recorded already is not repeated, so that the history of a long outage stays small."""
    number, attempt = activity.number, activity.attempt
    recorded = failure if attempt <= FULL_FAILURES else bounded(failure, BRIEF_BYTES)
    if activity.failed and activity.failure in (failure, recorded):
        return ev.ActivityAttemptFailed(number, attempt, FailureInfo(failure.type), retry_at, token, activity.failed)
    return ev.ActivityAttemptFailed(number, attempt, recorded, retry_at, token)


def redispatch_at(activity: ActivityState, at: int) -> int:
    """When to look again for a worker that knows the activity: the longer it has been waited for, the later, so that the history
    grows by a few events only.
    """
    return at + min(max(at - activity.scheduled_at, DECLINED_US), 100 * DECLINED_US)


def interval_us(policy: RetryPolicy, attempt: int, retry_after_us: int) -> int:
    """How long to wait after the failure of attempt `attempt` (from 1).

    The delay that the error asked for, if it did; else exponential back-off with a cap.
    """
    if retry_after_us >= 0:
        return min(retry_after_us, LONGEST_US)
    try:
        return int(min(policy.first_interval_us * policy.coefficient ** (attempt - 1), policy.maximum_interval_us))
    except OverflowError:  # it has reached the cap long before
        return min(policy.first_interval_us, 1) * policy.maximum_interval_us


def _is_final(policy: RetryPolicy, failure: FailureInfo, attempt: int) -> bool:
    if failure.is_final:
        return True
    for member in members_of(failure):  # one of a group that another attempt cannot cure is enough
        if member.type in NEVER_RETRIED or (policy.never and not {member.type, *member.bases}.isdisjoint(policy.never)):
            return True
    return bool(policy.maximum_attempts) and attempt >= policy.maximum_attempts
