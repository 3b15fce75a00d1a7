"""The machine of one activity, from scheduled to closed.

A report counts only under the token of the current attempt. A closed activity is forgotten, so a
late report finds nothing and is recorded as ignored.

Its option `on_cancel` says what cancelling the wait does. `ask` closes the activity immediately:
the run continues, and the worker is asked to stop. `wait` asks, too, and closes it when its attempt
has ended. `abandon` changes nothing for the activity; the code has left it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final

from msgspec.structs import replace

from perdure.core.answers import answer_of
from perdure.core.machine import (
    NOTHING,
    ActionRule,
    Cancelling,
    Decision,
    Machine,
    Outbox,
    Stamp,
    same_number,
)
from perdure.core.state import ActivityState, ActivityStatus, LaterState, Phase, RunState
from perdure.model import actions as ac
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.duration import LATEST_US
from perdure.model.failure import BRIEF_BYTES, FailureInfo, bounded, head, members_of, text_of
from perdure.model.inline import OUTCOME_UNKNOWN
from perdure.model.options import ActivityOptions, RetryPolicy, interval_us
from perdure.model.states import Wait
from perdure.model.tasks import Task
from perdure.model.timers import Timer, TimerKind

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
    (_S.DISPATCHED, ev.ActivityDeferred): _S.DEFERRED,
    (_S.STARTED, ev.ActivityDeferred): _S.DEFERRED,
    (_S.DEFERRED, ev.ActivityAttemptFailed): _S.BACKING_OFF,
    (_S.DEFERRED, ev.ActivityCompleted): _S.COMPLETED,
    (_S.DEFERRED, ev.ActivityFailed): _S.FAILED,
    (_S.DEFERRED, ev.ActivityCancelRequested): _S.CANCELLED,
    (_S.DISPATCHED, ev.ActivityStopRequested): _S.STOPPING,
    (_S.STARTED, ev.ActivityStopRequested): _S.STOPPING,
    (_S.BACKING_OFF, ev.ActivityStopRequested): _S.STOPPING,
    (_S.DEFERRED, ev.ActivityStopRequested): _S.STOPPING,
    (_S.STOPPING, ev.ActivityStarted): _S.STOPPING,
    (_S.STOPPING, ev.ActivityCompleted): _S.COMPLETED,
    (_S.STOPPING, ev.ActivityFailed): _S.FAILED,
    (_S.STOPPING, ev.ActivityCancelled): _S.CANCELLED,
    (_S.DISPATCHED, ev.ActivityAbandoned): _S.DISPATCHED,
    (_S.STARTED, ev.ActivityAbandoned): _S.STARTED,
    (_S.BACKING_OFF, ev.ActivityAbandoned): _S.BACKING_OFF,
    (_S.DEFERRED, ev.ActivityAbandoned): _S.DEFERRED,
    (_S.STOPPING, ev.ActivityAbandoned): _S.STOPPING,
    (_S.BACKING_OFF, ev.ActivityRetried): _S.DISPATCHED,
    (_S.BACKING_OFF, ev.ActivityFailed): _S.FAILED,
    (_S.BACKING_OFF, ev.ActivityCancelRequested): _S.CANCELLED,
    (_S.BACKING_OFF, ev.ActivityCompleted): _S.COMPLETED,
    (_S.DISPATCHED, ev.ActivityExhausted): _S.EXHAUSTED,
    (_S.STARTED, ev.ActivityExhausted): _S.EXHAUSTED,
    (_S.DEFERRED, ev.ActivityExhausted): _S.EXHAUSTED,
    (_S.BACKING_OFF, ev.ActivityExhausted): _S.EXHAUSTED,
    (_S.EXHAUSTED, ev.ActivityRetried): _S.DISPATCHED,
    (_S.EXHAUSTED, ev.ActivityCompleted): _S.COMPLETED,
    (_S.EXHAUSTED, ev.ActivityFailed): _S.FAILED,
    (_S.EXHAUSTED, ev.ActivityCancelRequested): _S.CANCELLED,
    (_S.EXHAUSTED, ev.ActivityStopRequested): _S.STOPPING,
    (_S.EXHAUSTED, ev.ActivityAbandoned): _S.EXHAUSTED,
}

_WITHOUT_TASK: Final = (_S.BACKING_OFF, _S.DEFERRED, _S.EXHAUSTED)
"""The statuses in which no worker has an attempt."""
BETWEEN: Final = (_S.BACKING_OFF, _S.EXHAUSTED)
"""The statuses in which the token is that of an attempt that has not begun."""
_LEASED: Final = (_S.STARTED, _S.STOPPING)
"""The statuses in which a worker may have a lease."""

REASON_BYTES: Final = 1_024
"""Of the last failure in the reason of a pause."""
DECLINED_US: Final = 10_000_000
"""The shortest delay before a declined task is dispatched again; the longest is a hundred times as
long."""
FULL_FAILURES: Final = 10
"""The number of attempts whose failures are recorded in full; later ones are cut to a kilobyte.
Without the limit, an activity that fails for a week would record 6,000 failures in full."""
UNAVAILABLE: Final = "perdure.errors:ValueUnavailable"
MISTAKES: Final = frozenset(
    (UNAVAILABLE, *(f"perdure.errors:{name}" for name in ("UsageError", "PayloadError", "NotAwaited")))
)
"""Failures that only other code cures, or a key or an object that comes back. They do not end the
activity: what its workflow made of them could not be taken back. The run is suspended until an
attempt ends otherwise.
"""
STOPPED: Final = "asyncio.exceptions:CancelledError"
"""The failure of an attempt that did what it was asked for: it stopped."""
FIX_US: Final = 60_000_000
LONGEST_FIX_US: Final = 3_600_000_000
"""The first and the longest pause after a mistake in the code. Nothing announces a worker with
fixed code, so attempts continue; the pause is long because each attempt repeats the side effects
that the function has before it fails."""
AWAY_US: Final = 5_000_000
LONGEST_AWAY_US: Final = 300_000_000
"""The same, while a value cannot be read: most often the function has not begun."""


# ---- decide: reports of workers, and timers


def _current_attempt(run: RunState, number: int, token: str) -> ActivityState | None:
    """The open activity whose current attempt has this token."""
    activity = run.activities.get(number)
    if activity is None or activity.token != token or activity.status in BETWEEN:
        return None
    return activity


def _ignored(run: RunState, command: cm.CompleteActivity | cm.FailActivity | cm.DeferActivity) -> Decision:
    number = command.number
    why = f"activity {number} " + ("is in another attempt" if number in run.activities else "is closed")
    return Decision((ev.CommandIgnored(type(command).__name__, why),))


def _complete(run: RunState, command: cm.CompleteActivity, stamp: Stamp) -> Decision:
    if _current_attempt(run, command.number, command.token) is None:
        return _ignored(run, command)
    return Decision((ev.ActivityCompleted(command.number, command.result),))


def _fail(run: RunState, command: cm.FailActivity, stamp: Stamp) -> Decision:
    activity = _current_attempt(run, command.number, command.token)
    if activity is None:
        return _ignored(run, command)
    if activity.status is _S.STOPPING:
        return Decision((_after_stop(activity, command),))
    return Decision(failed(run, activity, command.failure, stamp, timed_out=command.timed_out))


def _defer(run: RunState, command: cm.DeferActivity, stamp: Stamp) -> Decision:
    activity = _current_attempt(run, command.number, command.token)
    if activity is not None:
        if activity.status is _S.DEFERRED:
            return NOTHING
        if activity.status is _S.STOPPING:
            return Decision((ev.ActivityCancelled(command.number, "its result was to come later"),))
        return Decision((deferred(activity, stamp, command.ran_us),))
    later = run.later.get(command.number) if run.later is not None else None
    if later is not None and later.token == command.token:
        return NOTHING  # the answer was faster than the report
    return _ignored(run, command)


def deferred(activity: ActivityState, stamp: Stamp, ran_us: int = 0) -> ev.ActivityDeferred:
    """The event of an attempt whose result comes later.

    Args:
        activity: the open activity.
        stamp: the time of the batch.
        ran_us: how long its function ran; the timeout covers the function and the wait.
    """
    left_us = max(activity.options.timeout_us - max(ran_us, 0), 0)
    return ev.ActivityDeferred(activity.number, activity.attempt, min(stamp.at + left_us, LATEST_US))


def _expire_answer(run: RunState, command: cm.ExpireAnswer, stamp: Stamp) -> Decision:
    activity = run.activities.get(command.number)
    if activity is None or activity.status is not _S.DEFERRED or run.later is None:
        return NOTHING
    if run.later[command.number].expires_at > stamp.at:
        return NOTHING
    seconds = activity.options.timeout_us / 1_000_000
    message = f"attempt {activity.attempt} had no answer within timeout={seconds:g}s"
    failure = FailureInfo("builtins:TimeoutError", message)
    return Decision(failed(run, activity, failure, stamp, timed_out=True))


def _after_stop(
    activity: ActivityState, command: cm.FailActivity
) -> ev.ActivityCancelled | ev.ActivityFailed:
    """The event of an attempt that was asked to stop and has no result. No attempt follows."""
    if command.failure.type == STOPPED:
        return ev.ActivityCancelled(activity.number)
    return ev.ActivityFailed(activity.number, bounded(command.failure), activity.attempt, command.timed_out)


def _start(run: RunState, command: cm.StartActivity, stamp: Stamp) -> Decision:
    activity = _current_attempt(run, command.number, command.token)
    if activity is None or not (activity.status is _S.DISPATCHED or _is_stopping(activity)):
        return NOTHING
    return Decision((ev.ActivityStarted(command.number, activity.attempt, command.worker),))


def _decline(run: RunState, command: cm.DeclineActivity, stamp: Stamp) -> Decision:
    activity = _current_attempt(run, command.number, command.token)
    if activity is None or activity.declined:
        return NOTHING
    if _is_stopping(activity):
        return Decision((ev.ActivityCancelled(command.number, command.reason),))
    if activity.status is not _S.DISPATCHED:
        return NOTHING
    retry_at = redispatch_at(activity, stamp.at)
    return Decision((ev.ActivityDeclined(command.number, activity.attempt, command.reason, retry_at),))


def _heartbeat(run: RunState, command: cm.HeartbeatActivity, stamp: Stamp) -> Decision:
    """Causes no event: the engine renews the lease, and the history does not hold heartbeats."""
    return NOTHING


def _expire_lease(run: RunState, command: cm.ExpireLease, stamp: Stamp) -> Decision:
    activity = _current_attempt(run, command.number, command.token)
    if activity is None or activity.status not in _LEASED or _is_stopping(activity):
        return NOTHING
    message = f"no heartbeat from worker {activity.worker}"
    if activity.status is _S.STOPPING:
        return Decision((ev.ActivityCancelled(command.number, message),))
    kind = "perdure.errors:InfrastructureError"
    if activity.options.at_most_once:
        message = f"activity {activity.name!r}: {message}: it is not known whether it took effect"
        kind = OUTCOME_UNKNOWN
    failure = FailureInfo(type=kind, message=message)
    return Decision(failed(run, activity, failure, stamp, timed_out=False))


def _is_stopping(activity: ActivityState) -> bool:
    """Whether it was asked to stop while its attempt may not have begun."""
    return activity.status is _S.STOPPING and not activity.worker and not activity.retry_at


def _retry(run: RunState, command: cm.RetryActivity, stamp: Stamp) -> Decision:
    activity = run.activities.get(command.number)
    if activity is None or not activity.retry_at or activity.retry_at > stamp.at:
        return NOTHING
    if activity.status is _S.STOPPING:
        return Decision((ev.ActivityCancelled(command.number, "no attempt was running"),))
    attempt = activity.attempt + 1 if activity.status is _S.BACKING_OFF else activity.attempt
    return Decision((ev.ActivityRetried(command.number, attempt),))


def _expire(run: RunState, command: cm.ExpireActivity, stamp: Stamp) -> Decision:
    activity = run.activities.get(command.number)
    limit_us = 0 if activity is None else activity.options.retry.give_up_after_us
    if activity is None or not limit_us or stamp.at < activity.since + limit_us:
        return NOTHING
    if activity.status is _S.EXHAUSTED:
        return NOTHING
    seconds = limit_us / 1_000_000
    last = f"; the last attempt: {activity.failure.message}" if activity.failure else ""
    failure = FailureInfo(
        type="builtins:TimeoutError",
        message=f"no result within give_up_after={seconds:g}s{last}",
        cause=activity.failure,
    )
    if activity.options.when_exhausted == "pause" and activity.status is not _S.STOPPING:
        return Decision(_then_paused(run, activity, _exhausted(activity, failure, stamp, timed_out=True)))
    return Decision((ev.ActivityFailed(command.number, failure, activity.attempt, timed_out=True),))


# ---- the retry policy


def failed(
    run: RunState, activity: ActivityState, failure: FailureInfo, stamp: Stamp, *, timed_out: bool
) -> tuple[ev.AnyEvent, ...]:
    """As `after_failure`; and the run is paused if an operator is to decide."""
    event = after_failure(activity, failure, stamp, timed_out=timed_out)
    return _then_paused(run, activity, event) if type(event) is ev.ActivityExhausted else (event,)


def _then_paused(
    run: RunState, activity: ActivityState, event: ev.ActivityExhausted
) -> tuple[ev.AnyEvent, ...]:
    return (event, paused_by(activity, event.failure)) if run.phase is Phase.RUNNING else (event,)


def paused_by(activity: ActivityState, failure: FailureInfo | None = None) -> ev.WorkflowPaused:
    """The event of a run that is paused because this activity waits for a decision.

    Args:
        activity: its attempts are exhausted.
        failure: of the last attempt; None: the one that was recorded.
    """
    failure = failure or activity.failure
    attempts = "1 attempt" if activity.attempt == 1 else f"{activity.attempt} attempts"
    why = f": {head(text_of(failure), REASON_BYTES)}" if failure is not None else ""
    reason = f"activity {activity.number} {activity.name!r} failed after {attempts}{why}"
    return ev.WorkflowPaused(reason=reason, number=activity.number)


def _exhausted(
    activity: ActivityState, failure: FailureInfo, stamp: Stamp, *, timed_out: bool
) -> ev.ActivityExhausted:
    return ev.ActivityExhausted(activity.number, failure, activity.attempt, stamp.token(), timed_out)


def exhausted(run: RunState) -> Iterator[ActivityState]:
    """The activities of the run that wait for an operator's decision."""
    return (each for each in run.activities.values() if each.status is _S.EXHAUSTED)


def after_failure(
    activity: ActivityState, failure: FailureInfo, stamp: Stamp, *, timed_out: bool
) -> ev.ActivityAttemptFailed | ev.ActivityFailed | ev.ActivityExhausted:
    """The event that the failure of an attempt leads to: another attempt, an operator's decision,
    or the end.

    Args:
        activity: the activity that failed.
        failure: the attempt's failure.
        stamp: the time, and the token of the next attempt, if there is one.
        timed_out: the attempt ran longer than its timeout.
    """
    failure = bounded(failure)
    policy = activity.options.retry
    if is_mistake(failure) and not _is_never_retried(policy, failure):
        first, longest = (
            (AWAY_US, LONGEST_AWAY_US) if failure.type == UNAVAILABLE else (FIX_US, LONGEST_FIX_US)
        )
        pause_us = min(first << min(activity.attempt - 1, 6), longest)
        return _attempt_failed(activity, failure, stamp.at + pause_us, stamp.token())
    attempt = activity.attempt - activity.earlier
    if _is_final(activity.options, failure):
        return ev.ActivityFailed(activity.number, failure, activity.attempt, timed_out)
    if not _is_last(activity.options, failure, attempt):
        retry_at = stamp.at + interval_us(policy, attempt, failure.retry_after_us)
        if not policy.give_up_after_us or retry_at < activity.since + policy.give_up_after_us:
            return _attempt_failed(activity, failure, retry_at, stamp.token())
    if activity.options.when_exhausted == "pause":
        return _exhausted(activity, failure, stamp, timed_out=timed_out)
    return ev.ActivityFailed(activity.number, failure, activity.attempt, timed_out)


def _attempt_failed(
    activity: ActivityState, failure: FailureInfo, retry_at: int, token: str
) -> ev.ActivityAttemptFailed:
    """The event of a failed attempt. It leaves out a failure equal to the recorded one, so that the
    history of a long outage stays small.
    """
    number, attempt = activity.number, activity.attempt
    recorded = failure if attempt <= FULL_FAILURES else bounded(failure, BRIEF_BYTES)
    if activity.failed and activity.failure in (failure, recorded):
        return ev.ActivityAttemptFailed(
            number, attempt, FailureInfo(failure.type), retry_at, token, activity.failed
        )
    return ev.ActivityAttemptFailed(number, attempt, recorded, retry_at, token)


def redispatch_at(activity: ActivityState, at: int) -> int:
    """When to dispatch a declined task again. The pause grows with the time waited, so the history
    grows by a few events only.
    """
    return at + min(max(at - activity.scheduled_at, DECLINED_US), 100 * DECLINED_US)


def is_mistake(failure: FailureInfo | None) -> bool:
    """Whether only a change of the code can cure the failure."""
    return failure is not None and failure.type in MISTAKES


def _is_final(options: ActivityOptions, failure: FailureInfo) -> bool:
    """Whether no attempt can cure the failure, as its author says."""
    policy = options.retry
    if options.at_most_once and failure.type == OUTCOME_UNKNOWN:
        return failure.is_final
    if failure.is_final or _is_never_retried(policy, failure):
        return True
    # of a group, which the author has made
    return any(is_mistake(member) for member in members_of(failure))


def _is_last(options: ActivityOptions, failure: FailureInfo, attempt: int) -> bool:
    """Whether the policy allows no more attempts than these."""
    if options.at_most_once and failure.type == OUTCOME_UNKNOWN:
        # Nobody could look its outcome up: the next attempt asks again. `maximum_attempts` is of
        # those that run the function.
        return False
    limit = options.retry.maximum_attempts
    return bool(limit) and attempt >= limit


def _is_never_retried(policy: RetryPolicy, failure: FailureInfo) -> bool:
    """Whether your retry options exclude this failure, or a member of it if it is an exception
    group: a retry cannot help if one member is final.
    """
    return bool(policy.never) and any(
        not {member.type, *member.bases}.isdisjoint(policy.never) for member in members_of(failure)
    )


# ---- record: the events


def _moved(run: RunState, event: Any) -> tuple[ActivityState, ActivityStatus]:
    """The activity, moved along the table, and the status it had before."""
    activity = run.activities[event.number]
    before = activity.status
    activity.status = TRANSITIONS[before, type(event)]
    return activity, before


def _on_scheduled(run: RunState, event: ev.ActivityScheduled, outbox: Outbox | None) -> None:
    activity = run.activities[event.number] = ActivityState(event, run.last_at)
    if outbox is not None:
        outbox.dispatch(task_of(run, activity), is_inline=activity.options.use > 0)
        if event.options.retry.give_up_after_us:
            outbox.arm(give_up_timer(run, activity))


def _on_started(run: RunState, event: ev.ActivityStarted, outbox: Outbox | None) -> None:
    activity, _ = _moved(run, event)
    if outbox is not None and activity.retry_at:
        outbox.disarm(_retry_timer(run, activity))
    activity.worker, activity.declined, activity.retry_at = event.worker, "", 0


def _on_declined(run: RunState, event: ev.ActivityDeclined, outbox: Outbox | None) -> None:
    activity, _ = _moved(run, event)
    activity.declined, activity.retry_at = event.reason, event.retry_at
    if outbox is not None:
        _arm(run, outbox, _retry_timer(run, activity))


def _on_deferred(run: RunState, event: ev.ActivityDeferred, outbox: Outbox | None) -> None:
    activity, _ = _moved(run, event)
    if outbox is not None:
        if activity.retry_at:
            outbox.disarm(_retry_timer(run, activity))
        outbox.end_task((run.run_id, event.number), is_step=activity.options.is_step)
    activity.retry_at, activity.worker, activity.declined = 0, "", ""
    if run.later is None:
        run.later = {}
    run.later[event.number] = LaterState(activity.token, run.last_at, event.expires_at)
    if outbox is not None:
        _arm(run, outbox, _answer_timer(run, event.number))


def _on_attempt_failed(run: RunState, event: ev.ActivityAttemptFailed, outbox: Outbox | None) -> None:
    activity, before = _moved(run, event)
    if before is _S.DEFERRED:
        failure = activity.failure if event.same_as and activity.failure else event.failure
        _waited(run, event.number, outbox, answer_of(failure))
    elif outbox is not None:
        if activity.retry_at:
            outbox.disarm(_retry_timer(run, activity))
        outbox.end_task((run.run_id, event.number), is_step=activity.options.is_step)
    if outbox is not None:
        # say what failed, also when the history refers to an earlier attempt
        known = activity.failure if event.same_as else None
        outbox.failed(run, event if known is None else replace(event, failure=known), activity.name)
    activity.retry_at, activity.token = event.retry_at, event.token
    if not event.same_as:
        activity.failure, activity.failed = event.failure, event.attempt
    activity.worker = activity.declined = ""
    if outbox is not None:
        _arm(run, outbox, _retry_timer(run, activity))


def _on_retried(run: RunState, event: ev.ActivityRetried, outbox: Outbox | None) -> None:
    activity, _ = _moved(run, event)
    if outbox is not None:
        outbox.disarm(_retry_timer(run, activity))
    activity.attempt, activity.retry_at, activity.declined = event.attempt, 0, ""
    if outbox is not None:
        outbox.dispatch(task_of(run, activity), is_inline=activity.options.use > 0)


def _on_completed(run: RunState, event: ev.ActivityCompleted, outbox: Outbox | None) -> None:
    activity, before = _moved(run, event)
    del run.activities[event.number]
    if before is _S.DEFERRED:
        _waited(run, event.number, outbox, answer_of(event.result))
    if outbox is not None:
        _end(run, activity, before, outbox)


def _on_failed(run: RunState, event: ev.ActivityFailed, outbox: Outbox | None) -> None:
    activity, before = _moved(run, event)
    del run.activities[event.number]
    if before is _S.DEFERRED:
        _waited(run, event.number, outbox, answer_of(event.failure))
    if outbox is not None:
        _end(run, activity, before, outbox)
        outbox.failed(run, event, activity.name)


def _on_cancel_requested(run: RunState, event: ev.ActivityCancelRequested, outbox: Outbox | None) -> None:
    activity, before = _moved(run, event)
    del run.activities[event.number]
    if before is _S.DEFERRED:
        _waited(run, event.number, outbox, 0)
    if outbox is not None:
        _stop(run, activity, before, outbox)


def _on_stop_requested(run: RunState, event: ev.ActivityStopRequested, outbox: Outbox | None) -> None:
    activity, before = _moved(run, event)
    if before is _S.DEFERRED:
        _waited(run, event.number, outbox, 0)
    if activity.retry_at or before is _S.DEFERRED or before is _S.EXHAUSTED:
        # No attempt runs that could say when it has stopped: the timer does.
        if outbox is not None and activity.retry_at:
            outbox.disarm(_retry_timer(run, activity))
        activity.retry_at = run.last_at
        if outbox is not None:
            _arm(run, outbox, _retry_timer(run, activity))
    elif outbox is not None:
        outbox.cancel(run.run_id, activity.number, activity.token, is_step=activity.options.is_step)


def _on_cancelled(run: RunState, event: ev.ActivityCancelled, outbox: Outbox | None) -> None:
    activity, before = _moved(run, event)
    del run.activities[event.number]
    if outbox is not None:
        _end(run, activity, before, outbox)


def _on_abandoned(run: RunState, event: ev.ActivityAbandoned, outbox: Outbox | None) -> None:
    _moved(run, event)
    if run.abandoned is None:
        run.abandoned = set()
    run.abandoned.add(event.number)


def _on_exhausted(run: RunState, event: ev.ActivityExhausted, outbox: Outbox | None) -> None:
    activity, before = _moved(run, event)
    if before is _S.DEFERRED:
        _waited(run, event.number, outbox, answer_of(event.failure))
    if outbox is not None:
        if event.timed_out:  # its attempt may still run
            _stop(run, activity, before, outbox)
        else:
            _end(run, activity, before, outbox)
        outbox.failed(run, event, activity.name)
    activity.retry_at, activity.token = 0, event.token
    activity.failure, activity.failed = event.failure, event.attempt
    activity.worker = activity.declined = ""


def _timers(run: RunState) -> Iterator[Timer]:
    for activity in run.activities.values():
        if activity.retry_at:
            yield _retry_timer(run, activity)
        if activity.options.retry.give_up_after_us and activity.status is not _S.EXHAUSTED:
            yield give_up_timer(run, activity)
        if activity.status is _S.DEFERRED:
            yield _answer_timer(run, activity.number)


def _on_command_ignored(run: RunState, event: ev.CommandIgnored, outbox: Outbox | None) -> None:
    """Changes nothing; the event explains to people why a report had no effect."""


def _close(run: RunState, outbox: Outbox | None) -> None:
    if outbox is not None:
        abandoned = run.abandoned or ()
        for activity in run.activities.values():
            if activity.status is _S.DEFERRED:
                _waited(run, activity.number, outbox, 0)
            if activity.number in abandoned:  # its attempt may end; no other follows
                _end(run, activity, activity.status, outbox)
            else:
                _stop(run, activity, activity.status, outbox)
    run.activities.clear()


def _arm(run: RunState, outbox: Outbox, timer: Timer) -> None:
    """Store a timer. Those of a paused run are stored when it continues."""
    if not run.phase.is_paused:
        outbox.arm(timer)


def _waited(run: RunState, number: int, outbox: Outbox | None, answer: int) -> None:
    """Record that the attempt does not wait for an answer any more; the answer is kept to recognise
    repeats.
    """
    if run.later is not None:
        run.later[number].answer = answer
        if outbox is not None:
            outbox.disarm(_answer_timer(run, number))


def _end(run: RunState, activity: ActivityState, before: ActivityStatus, outbox: Outbox) -> None:
    if activity.retry_at:
        outbox.disarm(_retry_timer(run, activity))
    if is_out(activity, before):
        outbox.end_task((run.run_id, activity.number), is_step=activity.options.is_step)
    if activity.options.retry.give_up_after_us:
        outbox.disarm(give_up_timer(run, activity))


def _stop(run: RunState, activity: ActivityState, before: ActivityStatus, outbox: Outbox) -> None:
    _end(run, activity, before, outbox)
    if is_out(activity, before):
        outbox.cancel(run.run_id, activity.number, activity.token, is_step=activity.options.is_step)


def is_out(activity: ActivityState, status: ActivityStatus) -> bool:
    """Whether a task of it is dispatched; a declined one is."""
    if status is _S.STOPPING:
        return not activity.retry_at or bool(activity.declined)
    return status not in _WITHOUT_TASK


def task_of(run: RunState, activity: ActivityState) -> Task:
    """The task that a worker gets for the current attempt."""
    options, started = activity.options, run.started
    task = Task(
        workflow_id=run.workflow_id,
        run_id=run.run_id,
        number=activity.number,
        attempt=activity.attempt,
        token=activity.token,
        name=activity.name,
        queue=options.queue,
        input=activity.input,
        timeout_us=options.timeout_us,
        idempotency_key=options.idempotency_key or f"{run.run_id}/{activity.number}",
        scheduled_at=activity.scheduled_at,
        workflow_type=started.type,
        trace=started.trace,
    )
    if not (
        options.at_most_once or started.context or options.heartbeat_timeout_us or options.on_cancel == "wait"
    ):
        return task
    return replace(
        task,
        is_at_most_once=options.at_most_once and not options.is_step,
        is_unknown=options.at_most_once and _is_unknown(activity.failure),
        context=started.context,
        reports_stop=options.on_cancel == "wait",
        heartbeat_timeout_us=options.heartbeat_timeout_us,
    )


def _is_unknown(failure: FailureInfo | None) -> bool:
    return failure is not None and failure.type == OUTCOME_UNKNOWN


def _retry_timer(run: RunState, activity: ActivityState) -> Timer:
    return Timer(activity.retry_at, run.run_id, TimerKind.RETRY, activity.number, run.workflow_id)


def _answer_timer(run: RunState, number: int) -> Timer:
    expires_at = run.later[number].expires_at if run.later is not None else 0
    return Timer(expires_at, run.run_id, TimerKind.ANSWER, number, run.workflow_id)


def give_up_timer(run: RunState, activity: ActivityState) -> Timer:
    """That of `give_up_after`."""
    at = activity.since + activity.options.retry.give_up_after_us
    return Timer(at, run.run_id, TimerKind.GIVE_UP, activity.number, run.workflow_id)


# ---- actions, and what people read


def _schedule(run: RunState, action: ac.ScheduleActivity, token: Callable[[], str]) -> ev.AnyEvent:
    return ev.ActivityScheduled(action.number, action.name, action.input, action.options, token())


def _cancel(run: RunState, action: ac.CancelActivity, token: Callable[[], str]) -> ev.AnyEvent | None:
    return ev.ActivityCancelRequested(action.number) if action.number in run.activities else None


def _stop_and_wait(run: RunState, action: ac.StopActivity, token: Callable[[], str]) -> ev.AnyEvent | None:
    return ev.ActivityStopRequested(action.number) if action.number in run.activities else None


def _abandon(run: RunState, action: ac.AbandonActivity, token: Callable[[], str]) -> ev.AnyEvent | None:
    return ev.ActivityAbandoned(action.number) if action.number in run.activities else None


def _is_same_activity(event: ev.ActivityScheduled, action: ac.ScheduleActivity) -> bool:
    return (
        event.number == action.number
        and event.name == action.name
        and event.options.use == action.options.use
    )


def _scheduled_in_words(it: Any) -> str:
    if use := it.options.use:
        return f"step {it.name!r} ({_ordinal(use)} use) scheduled"
    return f"activity {it.number} {it.name!r} scheduled"


def _ordinal(number: int) -> str:
    """The ordinal of a number, as in `2nd`."""
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}" + {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def _cancelled_in_words(it: Any) -> str:
    return f"activity {it.number} cancelled"


def _stopped_in_words(it: Any) -> str:
    return f"activity {it.number} asked to stop"


def _abandoned_in_words(it: Any) -> str:
    return f"activity {it.number} abandoned"


def _waits(run: RunState, limit: int) -> list[Wait]:
    waited_for: Iterable[tuple[int, ActivityState]] = run.activities.items()
    if (abandoned := run.abandoned) is not None:
        waited_for = ((number, each) for number, each in waited_for if number not in abandoned)
    return [
        Wait("activity", each.name, number, each.attempt, each.scheduled_at, each.retry_at)
        if each.status is not _S.DEFERRED and each.status is not _S.EXHAUSTED
        else _other_wait(run, number, each)
        for number, each in islice(waited_for, limit)
    ]


def _other_wait(run: RunState, number: int, activity: ActivityState) -> Wait:
    """The wait for an answer from outside, or for an operator."""
    kind, due_at = "decision", activity.retry_at
    if activity.status is _S.DEFERRED:
        kind = "activity"
        if run.later is not None:
            kind, due_at = "answer", run.later[number].expires_at
    return Wait(kind, activity.name, number, activity.attempt, activity.scheduled_at, due_at)


_WHILE_OPEN: Final = Cancelling(
    opened_by=ev.ActivityScheduled,
    closed_by=(ev.ActivityCompleted, ev.ActivityFailed, ev.ActivityCancelRequested, ev.ActivityCancelled),
)

MACHINE: Final = Machine(
    name="activity",
    states=ActivityStatus,
    transitions=TRANSITIONS,
    decide={
        cm.CompleteActivity: _complete,
        cm.FailActivity: _fail,
        cm.DeferActivity: _defer,
        cm.ExpireAnswer: _expire_answer,
        cm.StartActivity: _start,
        cm.DeclineActivity: _decline,
        cm.HeartbeatActivity: _heartbeat,
        cm.ExpireLease: _expire_lease,
        cm.RetryActivity: _retry,
        cm.ExpireActivity: _expire,
    },
    record={
        ev.ActivityScheduled: _on_scheduled,
        ev.ActivityStarted: _on_started,
        ev.ActivityDeferred: _on_deferred,
        ev.ActivityDeclined: _on_declined,
        ev.ActivityAttemptFailed: _on_attempt_failed,
        ev.ActivityRetried: _on_retried,
        ev.ActivityCompleted: _on_completed,
        ev.ActivityFailed: _on_failed,
        ev.ActivityCancelRequested: _on_cancel_requested,
        ev.ActivityStopRequested: _on_stop_requested,
        ev.ActivityCancelled: _on_cancelled,
        ev.ActivityAbandoned: _on_abandoned,
        ev.CommandIgnored: _on_command_ignored,
        ev.ActivityExhausted: _on_exhausted,
    },
    actions={
        ac.ScheduleActivity: ActionRule(
            event=ev.ActivityScheduled,
            to_event=_schedule,
            fits=_is_same_activity,
            in_words=_scheduled_in_words,
        ),
        ac.CancelActivity: ActionRule(
            event=ev.ActivityCancelRequested,
            to_event=_cancel,
            fits=same_number,
            in_words=_cancelled_in_words,
        ),
        ac.StopActivity: ActionRule(
            event=ev.ActivityStopRequested,
            to_event=_stop_and_wait,
            fits=same_number,
            in_words=_stopped_in_words,
        ),
        ac.AbandonActivity: ActionRule(
            event=ev.ActivityAbandoned,
            to_event=_abandon,
            fits=same_number,
            in_words=_abandoned_in_words,
        ),
    },
    cancelling={
        ac.CancelActivity: _WHILE_OPEN,
        ac.StopActivity: _WHILE_OPEN,
        ac.AbandonActivity: _WHILE_OPEN,
    },
    wakes=frozenset({ev.ActivityCompleted, ev.ActivityFailed, ev.ActivityCancelled}),
    due={
        TimerKind.RETRY: lambda timer: cm.RetryActivity(timer.workflow_id, timer.run_id, number=timer.number),
        TimerKind.GIVE_UP: lambda timer: cm.ExpireActivity(
            timer.workflow_id, timer.run_id, number=timer.number
        ),
        TimerKind.ANSWER: lambda timer: cm.ExpireAnswer(timer.workflow_id, timer.run_id, number=timer.number),
    },
    holds="activities",
    waits=_waits,
    timers=_timers,
    close=_close,
)
