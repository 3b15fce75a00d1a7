"""What must happen once an event is durable: tasks out, timers armed, attempts stopped.

Asked for each event just before `evolve` takes it over, with the state as it was. Replay of history asks for none.
"""

from __future__ import annotations

from typing import Protocol

from msgspec.structs import replace

from perdure.core.activity import ActivityState, ActivityStatus
from perdure.core.run import RunState
from perdure.model import events as ev
from perdure.model.tasks import Task
from perdure.model.timers import Timer, TimerKind


class Outbox(Protocol):
    """Where effects go; the engine's batch."""

    def dispatch(self, task: Task) -> None:
        """Give a task to workers, or start a step."""

    def end_task(self, task: tuple[str, int], *, is_step: bool) -> None:
        """The attempt of this (run id, number) that is out, if there is one, is over."""

    def cancel(self, run_id: str, number: int, token: str, *, is_step: bool) -> None:
        """Ask the attempt to stop."""

    def produce(self, workflow_id: str, record: ev.RecordProduced) -> None:
        """Write a record to a topic of the author's."""

    def failed(self, run: RunState, event: ev.AnyEvent, activity: str = "") -> None:
        """Tell the operator that the run, or an attempt of the activity of this name, has failed."""

    def arm(self, timer: Timer) -> None:
        """Keep a timer."""

    def disarm(self, timer: Timer) -> None:
        """Keep it no longer."""


def begin(run: RunState, outbox: Outbox) -> None:
    """The effects of WorkflowStarted."""
    started = run.started
    if started.timeout_us:
        outbox.arm(_timeout(run))
    if started.delayed_until:
        outbox.arm(_begin(run))


def effects(run: RunState, event: ev.AnyEvent, at: int, outbox: Outbox) -> None:
    """The effects of any other event.

    Args:
        run: as it was before the event.
        event: about to be taken over.
        at: of the event, microseconds.
        outbox: written.
    """
    match event:
        case ev.ActivityScheduled():
            activity = ActivityState(event, at)
            outbox.dispatch(activity.task(run.workflow_id, run.run_id, run.type, run.started.trace))
            if event.options.retry.give_up_after_us:
                outbox.arm(_give_up(run, activity))
        case ev.TimerStarted():
            outbox.arm(Timer(event.fires_at, run.run_id, TimerKind.CODE, event.number, run.workflow_id))
        case ev.TimerFired() | ev.TimerCancelled():
            outbox.disarm(Timer(run.timers[event.number], run.run_id, TimerKind.CODE, event.number, run.workflow_id))
        case ev.ActivityDeclined():
            outbox.arm(Timer(event.retry_at, run.run_id, TimerKind.RETRY, event.number, run.workflow_id))
        case ev.ActivityStarted():
            activity = run.activities[event.number]
            if activity.retry_at:
                outbox.disarm(_retry(run, activity))
        case ev.ActivityAttemptFailed():
            activity = run.activities[event.number]
            if activity.retry_at:
                outbox.disarm(_retry(run, activity))
            outbox.end_task((run.run_id, event.number), is_step=activity.options.is_step)
            outbox.arm(Timer(event.retry_at, run.run_id, TimerKind.RETRY, event.number, run.workflow_id))
            outbox.failed(run, event, activity.name)
        case ev.ActivityRetried():
            activity = run.activities[event.number]
            outbox.disarm(_retry(run, activity))
            outbox.dispatch(
                replace(activity.task(run.workflow_id, run.run_id, run.type, run.started.trace), attempt=event.attempt)
            )
        case ev.ActivityCompleted():
            _end(run, run.activities[event.number], outbox)
        case ev.ActivityFailed():
            activity = run.activities[event.number]
            _end(run, activity, outbox)
            outbox.failed(run, event, activity.name)
        case ev.ActivityCancelRequested():
            _stop(run, run.activities[event.number], outbox)
        case ev.RecordProduced():
            outbox.produce(run.workflow_id, event)
        case ev.WorkflowBegun():
            outbox.disarm(_begin(run))
        case ev.WorkflowCompleted() | ev.WorkflowCancelled() | ev.WorkflowTerminated():
            _close(run, outbox)
        case ev.WorkflowFailed() | ev.WorkflowTimedOut():
            _close(run, outbox)
            outbox.failed(run, event)
        case _:
            pass


def _end(run: RunState, activity: ActivityState, outbox: Outbox) -> None:
    if activity.retry_at:
        outbox.disarm(_retry(run, activity))
    if activity.status is not ActivityStatus.BACKING_OFF:
        outbox.end_task((run.run_id, activity.number), is_step=activity.options.is_step)
    if activity.options.retry.give_up_after_us:
        outbox.disarm(_give_up(run, activity))


def _stop(run: RunState, activity: ActivityState, outbox: Outbox) -> None:
    _end(run, activity, outbox)
    if activity.status is not ActivityStatus.BACKING_OFF:
        outbox.cancel(run.run_id, activity.number, activity.token, is_step=activity.options.is_step)


def _close(run: RunState, outbox: Outbox) -> None:
    for activity in run.activities.values():
        _stop(run, activity, outbox)
    for number, fires_at in run.timers.items():
        outbox.disarm(Timer(fires_at, run.run_id, TimerKind.CODE, number, run.workflow_id))
    if run.started.timeout_us:
        outbox.disarm(_timeout(run))
    if run.started.delayed_until:
        outbox.disarm(_begin(run))


def _retry(run: RunState, activity: ActivityState) -> Timer:
    return Timer(activity.retry_at, run.run_id, TimerKind.RETRY, activity.number, run.workflow_id)


def _give_up(run: RunState, activity: ActivityState) -> Timer:
    at = activity.scheduled_at + activity.options.retry.give_up_after_us
    return Timer(at, run.run_id, TimerKind.GIVE_UP, activity.number, run.workflow_id)


def _timeout(run: RunState) -> Timer:
    return Timer(run.started_at + run.started.timeout_us, run.run_id, TimerKind.TIMEOUT, 0, run.workflow_id)


def _begin(run: RunState) -> Timer:
    return Timer(run.started.delayed_until, run.run_id, TimerKind.BEGIN, 0, run.workflow_id)
