"""The machine of an operator's decision about an activity: to retry it, to give it a result, to let
it fail.

An activity whose attempts are exhausted (`Retry(when_exhausted="pause")`) waits for one. Any other
open activity may get one, too: one that waits for its next attempt is retried immediately.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from msgspec.structs import replace

from perdure.core import requests
from perdure.core.machine import Decision, Machine, Outbox, Stamp
from perdure.core.machines.activity import BETWEEN, exhausted, give_up_timer, is_out
from perdure.core.state import ActivityState, ActivityStatus, Pause, Phase, RunState
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.failure import bounded
from perdure.model.options import ActivityOptions
from perdure.model.replies import Accepted, Refused

_S = ActivityStatus


# ---- decide


def _retry_now(run: RunState, command: cm.RetryActivityNow, stamp: Stamp) -> Decision:
    if (reply := requests.repeated(run.requests, command, run.run_id)) is not None:
        return Decision(reply=reply)
    activity = run.activities.get(command.number)
    if activity is None:
        return _not_open(run, command)
    if activity.status not in BETWEEN and not (activity.status is _S.DISPATCHED and activity.declined):
        doing = "was asked to stop" if activity.status is _S.STOPPING else "has not ended"
        advice = "complete the activity or let it fail to continue without it"
        why = f"attempt {activity.attempt} {doing}; {advice}"
        return _wrong_state(run, command, why)
    if command.queue and activity.options.is_step:
        return _wrong_state(run, command, "it is a step, which runs in the engine's process: it has no queue")
    overridden, again = retried(activity, stamp, command.by, command.reason, command)
    return Decision(
        (overridden, again, *_then_unpaused(run, activity, command.by, command.reason)),
        Accepted(command.request_id, run.run_id),
    )


def _resolve(run: RunState, command: cm.ResolveActivity, stamp: Stamp) -> Decision:
    return _override(run, command, "complete", ev.ActivityCompleted(command.number, command.value))


def _reject(run: RunState, command: cm.RejectActivity, stamp: Stamp) -> Decision:
    activity = run.activities.get(command.number)
    attempts = activity.attempt if activity is not None else 0
    return _override(
        run, command, "fail", ev.ActivityFailed(command.number, bounded(command.failure), attempts)
    )


def _override(
    run: RunState, command: cm.ResolveActivity | cm.RejectActivity, decision: str, end: ev.AnyEvent
) -> Decision:
    if (reply := requests.repeated(run.requests, command, run.run_id)) is not None:
        return Decision(reply=reply)
    activity = run.activities.get(command.number)
    if activity is None:
        return _not_open(run, command)
    overridden = ev.ActivityOverridden(
        command.number, decision, command.by, command.reason, command.request_id
    )
    return Decision(
        (overridden, end, *_then_unpaused(run, activity, command.by, command.reason)),
        Accepted(command.request_id, run.run_id),
    )


def _not_open(run: RunState, command: Any) -> Decision:
    open_ = ", ".join(f"{number} ({each.name})" for number, each in islice(run.activities.items(), 20))
    return _wrong_state(run, command, f"it is not open; open are: {open_ or 'none'}")


def _wrong_state(run: RunState, command: Any, why: str) -> Decision:
    message = f"activity {command.number} of workflow {run.workflow_id!r}: {why}"
    return Decision(reply=Refused(command.request_id, "wrong_state", message, run.run_id))


def _then_unpaused(
    run: RunState, activity: ActivityState, by: str, reason: str
) -> tuple[ev.WorkflowUnpaused, ...]:
    """The run continues when the last of the activities that have paused it was decided."""
    if run.phase is not Phase.PAUSED or activity.status is not _S.EXHAUSTED:
        return ()
    if any(each is not activity for each in exhausted(run)) or not run.part(Pause).number:
        return ()
    return (ev.WorkflowUnpaused(by, reason),)


def retried(
    activity: ActivityState, stamp: Stamp, by: str, reason: str, command: cm.RetryActivityNow | None = None
) -> tuple[ev.ActivityOverridden, ev.ActivityRetried]:
    """The events of another attempt that an operator has ordered.

    Args:
        activity: has no attempt that runs.
        stamp: has the token of the attempt.
        by: who has ordered it.
        reason: why.
        command: has the options that change; None: none.
    """
    number = activity.number
    attempt = activity.attempt + 1 if activity.status in BETWEEN else activity.attempt
    overridden = ev.ActivityOverridden(number, "retry", by, reason, token=stamp.token())
    if command is not None:
        overridden = replace(
            overridden,
            request_id=command.request_id,
            timeout_us=command.timeout_us,
            maximum_attempts=command.maximum_attempts,
            queue=command.queue,
        )
    return overridden, ev.ActivityRetried(number, attempt)


# ---- record


def _on_overridden(run: RunState, event: ev.ActivityOverridden, outbox: Outbox | None) -> None:
    activity = run.activities[event.number]
    if event.request_id:
        options = event.timeout_us, event.maximum_attempts, event.queue
        run.requests[requests.OVERRIDE, event.request_id] = requests.of_override(
            event.number, event.decision, event.by, event.reason, options
        )
    if event.decision != "retry":
        if outbox is not None and is_out(activity, activity.status):
            outbox.cancel(run.run_id, activity.number, activity.token, is_step=activity.options.is_step)
        return
    has_limit = bool(activity.options.retry.give_up_after_us)
    if outbox is not None and has_limit:
        outbox.disarm(give_up_timer(run, activity))
    is_over = activity.status in BETWEEN
    activity.earlier = activity.attempt if is_over else activity.attempt - 1
    activity.token, activity.since = event.token, run.last_at
    activity.options = _changed(activity.options, event)
    if outbox is not None and has_limit and not run.phase.is_paused:
        outbox.arm(give_up_timer(run, activity))


def _changed(options: ActivityOptions, event: ev.ActivityOverridden) -> ActivityOptions:
    retry = options.retry
    if event.maximum_attempts:
        retry = replace(retry, maximum_attempts=event.maximum_attempts)
    return replace(
        options,
        queue=event.queue or options.queue,
        timeout_us=event.timeout_us or options.timeout_us,
        retry=retry,
    )


MACHINE: Final = Machine(
    name="override",
    decide={cm.RetryActivityNow: _retry_now, cm.ResolveActivity: _resolve, cm.RejectActivity: _reject},
    record={ev.ActivityOverridden: _on_overridden},
)
