"""What the code wants, as facts: actions to events, and events back to what replay must see again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, assert_never

from perdure.core.run import RunState
from perdure.model import actions as ac
from perdure.model import events as ev


def to_event(run: RunState, action: ac.AnyAction, token: Callable[[], str]) -> ev.AnyEvent | None:
    """The event that records an action; None when there is nothing left to record.

    Args:
        run: only read: what the action asks to cancel may be over.
        action: what the code wants.
        token: makes a fresh attempt's token.
    """
    match action:
        case ac.ScheduleActivity():
            return ev.ActivityScheduled(action.number, action.name, action.input, action.options, token())
        case ac.CancelActivity():
            return ev.ActivityCancelRequested(action.number) if action.number in run.activities else None
        case ac.StartTimer():
            return ev.TimerStarted(action.number, action.fires_at)
        case ac.CancelTimer():
            return ev.TimerCancelled(action.number) if action.number in run.timers else None
        case ac.ProduceRecord():
            return ev.RecordProduced(action.number, action.topic, action.key, action.value, action.headers)
        case ac.CompleteWorkflow():
            return ev.WorkflowCompleted(action.result)
        case ac.FailWorkflow():
            return ev.WorkflowFailed(action.failure)
        case ac.EndCancelled():
            return ev.WorkflowCancelled(run.cancel_reason)
        case _:
            assert_never(action)


RECORDED_AS: Final[dict[type[ev.Event], type[ac.Action]]] = {
    ev.ActivityScheduled: ac.ScheduleActivity,
    ev.ActivityCancelRequested: ac.CancelActivity,
    ev.TimerStarted: ac.StartTimer,
    ev.TimerCancelled: ac.CancelTimer,
    ev.RecordProduced: ac.ProduceRecord,
    ev.WorkflowCompleted: ac.CompleteWorkflow,
    ev.WorkflowFailed: ac.FailWorkflow,
    ev.WorkflowCancelled: ac.EndCancelled,
}
"""The events that record an action; all others come from outside the code."""


def fits(event: Any, action: ac.AnyAction) -> bool:
    """Whether the action is the one that the event records: the same kind, number and name.

    Arguments are not compared: they may hold what the author changed on purpose.
    """
    if RECORDED_AS[type(event)] is not type(action):
        return False
    match action:
        case ac.ScheduleActivity():
            return bool(event.number == action.number and event.name == action.name)
        case ac.ProduceRecord():
            return bool(event.number == action.number and event.topic == action.topic)
        case ac.CancelActivity() | ac.StartTimer() | ac.CancelTimer():
            return bool(event.number == action.number)
        case _:
            return True


def in_words(thing: Any) -> str:
    """An action, or the event that records it, for the message of a ReplayError."""
    match thing:
        case ev.ActivityScheduled() | ac.ScheduleActivity():
            return f"activity {thing.number} {thing.name!r} scheduled"
        case ev.ActivityCancelRequested() | ac.CancelActivity():
            return f"activity {thing.number} cancelled"
        case ev.TimerStarted() | ac.StartTimer():
            return f"timer {thing.number} started"
        case ev.TimerCancelled() | ac.CancelTimer():
            return f"timer {thing.number} cancelled"
        case ev.RecordProduced() | ac.ProduceRecord():
            return f"record {thing.number} for topic {thing.topic!r} produced"
        case ev.WorkflowCompleted() | ac.CompleteWorkflow():
            return "the workflow completed"
        case ev.WorkflowFailed() | ac.FailWorkflow():
            return "the workflow failed"
        case _:
            return "the workflow cancelled"
