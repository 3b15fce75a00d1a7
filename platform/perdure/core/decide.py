"""What a command leads to. Reads only; `evolve` writes.

A request that is refused leaves no event and gets a `Refused`; a report that comes late leaves `CommandIgnored` in an open run. Starts
are in `start.py`: they concern two runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from perdure.core.activity import ActivityState, ActivityStatus, after_failure, redispatch_at
from perdure.core.lifecycle import Phase
from perdure.core.requests import content_of, differs, key_of
from perdure.core.run import RunState
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.failure import FailureInfo
from perdure.model.replies import Accepted, AnyReply, Closed, Refused


class Decision(NamedTuple):
    """What a command leads to: facts to record, and the answer, if somebody waits for one."""

    events: tuple[ev.AnyEvent, ...] = ()
    reply: AnyReply | None = None


NOTHING: Final = Decision()


def decide(run: RunState, command: cm.AnyCommand, at: int, token: Callable[[], str]) -> Decision:
    """Decide a command for a run that is there.

    Args:
        run: only read. May be closed.
        command: any but StartWorkflow, QueryWorkflow, AwaitWorkflow and ReadHistory, which leave no event in the run.
        at: now, microseconds.
        token: makes a fresh attempt's token.
    """
    if run.phase.is_closed:
        return _of_closed(run, command)
    return _DECIDE[type(command)](run, command, at, token)


def closed_reply(run: RunState, request_id: str) -> Closed:
    """How a closed run ended, for whoever awaits it."""
    return Closed(request_id, run.run_id, run.status, run.result, run.failure, run.reason)


def _of_closed(run: RunState, command: cm.AnyCommand) -> Decision:
    if not isinstance(command, cm.Request):
        return NOTHING
    if (repeated := _repeated(run, command)) is not None:
        return repeated
    message = f"workflow {run.workflow_id!r} is {run.status.value}: a closed run takes no more messages"
    return Decision(reply=Refused(command.request_id, "closed", message, run.run_id))


def _accept(run: RunState, command: cm.Request, *events: ev.AnyEvent) -> Decision:
    return Decision(events, Accepted(command.request_id, run.run_id))


def _repeated(run: RunState, command: cm.Request) -> Decision | None:
    """The answer to a request that the run has taken before, or to another one with the same id; None: it is new."""
    if not command.request_id or (content := run.requests.get(key_of(command))) is None:
        return None
    if content != content_of(command):
        return Decision(reply=differs(command, run.run_id))
    return Decision(reply=Accepted(command.request_id, run.run_id, is_new=False))


def _signal(run: RunState, command: cm.SignalWorkflow, at: int, token: Callable[[], str]) -> Decision:
    if (repeated := _repeated(run, command)) is not None:
        return repeated
    return _accept(run, command, ev.SignalReceived(command.name, command.input, command.request_id))


def _cancel(run: RunState, command: cm.CancelWorkflow, at: int, token: Callable[[], str]) -> Decision:
    if (repeated := _repeated(run, command)) is not None:
        return repeated
    requested = ev.WorkflowCancelRequested(command.reason, command.request_id)
    if run.phase is Phase.DELAYED:
        return _accept(run, command, requested, ev.WorkflowCancelled(command.reason))
    return _accept(run, command, requested)


def _terminate(run: RunState, command: cm.TerminateWorkflow, at: int, token: Callable[[], str]) -> Decision:
    return _accept(run, command, ev.WorkflowTerminated(command.reason, command.request_id))


def _ignored(command: cm.AnyCommand, reason: str) -> Decision:
    return Decision((ev.CommandIgnored(type(command).__name__, reason),))


def _attempt(run: RunState, number: int, token: str) -> ActivityState | None:
    """The open activity whose attempt under this token is out."""
    activity = run.activities.get(number)
    if activity is None or activity.token != token or activity.status is ActivityStatus.BACKING_OFF:
        return None
    return activity


def _why_late(run: RunState, number: int) -> str:
    return f"activity {number} " + ("is on another attempt" if number in run.activities else "is closed")


def _complete_activity(run: RunState, command: cm.CompleteActivity, at: int, token: Callable[[], str]) -> Decision:
    if _attempt(run, command.number, command.token) is None:
        return _ignored(command, _why_late(run, command.number))
    return Decision((ev.ActivityCompleted(command.number, command.result),))


def _fail_activity(run: RunState, command: cm.FailActivity, at: int, token: Callable[[], str]) -> Decision:
    activity = _attempt(run, command.number, command.token)
    if activity is None:
        return _ignored(command, _why_late(run, command.number))
    event: Any = after_failure(activity, command.failure, at, timed_out=command.timed_out, token=token())
    return Decision((event,))


def _start_activity(run: RunState, command: cm.StartActivity, at: int, token: Callable[[], str]) -> Decision:
    activity = _attempt(run, command.number, command.token)
    if activity is None or activity.status is ActivityStatus.STARTED:
        return NOTHING
    return Decision((ev.ActivityStarted(command.number, activity.attempt, command.worker),))


def _decline_activity(run: RunState, command: cm.DeclineActivity, at: int, token: Callable[[], str]) -> Decision:
    activity = _attempt(run, command.number, command.token)
    if activity is None or activity.status is ActivityStatus.STARTED or activity.declined:
        return NOTHING
    return Decision((ev.ActivityDeclined(command.number, activity.attempt, command.reason, redispatch_at(activity, at)),))


def _expire_lease(run: RunState, command: cm.ExpireLease, at: int, token: Callable[[], str]) -> Decision:
    activity = _attempt(run, command.number, command.token)
    if activity is None or activity.status is not ActivityStatus.STARTED:
        return NOTHING
    failure = FailureInfo(type="perdure.errors:InfrastructureError", message=f"nothing was heard of worker {activity.worker}")
    event: Any = after_failure(activity, failure, at, timed_out=False, token=token())
    return Decision((event,))


def _retry_activity(run: RunState, command: cm.RetryActivity, at: int, token: Callable[[], str]) -> Decision:
    activity = run.activities.get(command.number)
    if activity is None or not activity.retry_at or activity.retry_at > at:
        return NOTHING
    attempt = activity.attempt + 1 if activity.status is ActivityStatus.BACKING_OFF else activity.attempt
    return Decision((ev.ActivityRetried(command.number, attempt),))


def _expire_activity(run: RunState, command: cm.ExpireActivity, at: int, token: Callable[[], str]) -> Decision:
    activity = run.activities.get(command.number)
    if activity is None:
        return NOTHING
    seconds = activity.options.retry.give_up_after_us / 1_000_000
    last = f"; the last attempt: {activity.failure.message}" if activity.failure else ""
    failure = FailureInfo(
        type="builtins:TimeoutError",
        message=f"no result within give_up_after={seconds:g}s{last}",
        cause=activity.failure,
    )
    return Decision((ev.ActivityFailed(command.number, failure, activity.attempt, timed_out=True),))


def _fire_timer(run: RunState, command: cm.FireTimer, at: int, token: Callable[[], str]) -> Decision:
    fires_at = run.timers.get(command.number)
    if fires_at is None or fires_at > at:
        return NOTHING
    return Decision((ev.TimerFired(command.number),))


def _expire_workflow(run: RunState, command: cm.ExpireWorkflow, at: int, token: Callable[[], str]) -> Decision:
    if at < run.started_at + run.started.timeout_us:
        return NOTHING
    return Decision((ev.WorkflowTimedOut(),))


def _begin_workflow(run: RunState, command: cm.BeginWorkflow, at: int, token: Callable[[], str]) -> Decision:
    if run.phase is not Phase.DELAYED or at < run.started.delayed_until:
        return NOTHING
    return Decision((ev.WorkflowBegun(),))


def _without_event(run: RunState, command: cm.AnyCommand, at: int, token: Callable[[], str]) -> Decision:
    """A heartbeat is the engine's own affair; a resume succeeds or fails in the replay."""
    return NOTHING


_DECIDE: Final[dict[type[cm.Command], Callable[[RunState, Any, int, Callable[[], str]], Decision]]] = {
    cm.SignalWorkflow: _signal,
    cm.CancelWorkflow: _cancel,
    cm.TerminateWorkflow: _terminate,
    cm.CompleteActivity: _complete_activity,
    cm.FailActivity: _fail_activity,
    cm.StartActivity: _start_activity,
    cm.DeclineActivity: _decline_activity,
    cm.HeartbeatActivity: _without_event,
    cm.ExpireLease: _expire_lease,
    cm.RetryActivity: _retry_activity,
    cm.ExpireActivity: _expire_activity,
    cm.FireTimer: _fire_timer,
    cm.ExpireWorkflow: _expire_workflow,
    cm.BeginWorkflow: _begin_workflow,
    cm.ResumeWorkflow: _without_event,
}
