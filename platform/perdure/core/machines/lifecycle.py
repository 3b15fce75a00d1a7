"""The machine of a run as a whole: delayed, running, suspended, paused, closed.

A run is suspended when its code cannot be replayed to the end of its history. No data is lost; the
run resumes when the code matches again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from perdure.core import requests
from perdure.core.machine import NOTHING, ActionRule, Decision, Machine, Outbox, Stamp
from perdure.core.machines import token
from perdure.core.state import Pause, Phase, RunState
from perdure.model import actions as ac
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.replies import Accepted, Refused
from perdure.model.states import Wait
from perdure.model.timers import Timer, TimerKind

_P = Phase

TRANSITIONS: Final[dict[tuple[Phase, type[ev.Event]], Phase]] = {
    (_P.DELAYED, ev.WorkflowBegun): _P.RUNNING,
    (_P.DELAYED, ev.WorkflowCancelled): _P.CANCELLED,
    (_P.DELAYED, ev.WorkflowTerminated): _P.TERMINATED,
    (_P.DELAYED, ev.WorkflowTimedOut): _P.TIMED_OUT,
    (_P.RUNNING, ev.WorkflowSuspended): _P.SUSPENDED,
    (_P.RUNNING, ev.WorkflowCompleted): _P.COMPLETED,
    (_P.RUNNING, ev.WorkflowFailed): _P.FAILED,
    (_P.RUNNING, ev.WorkflowCancelled): _P.CANCELLED,
    (_P.RUNNING, ev.WorkflowTerminated): _P.TERMINATED,
    (_P.RUNNING, ev.WorkflowTimedOut): _P.TIMED_OUT,
    (_P.RUNNING, ev.WorkflowContinued): _P.CONTINUED,
    (_P.SUSPENDED, ev.WorkflowResumed): _P.RUNNING,
    (_P.SUSPENDED, ev.WorkflowSuspended): _P.SUSPENDED,
    (_P.SUSPENDED, ev.WorkflowTerminated): _P.TERMINATED,
    (_P.SUSPENDED, ev.WorkflowTimedOut): _P.TIMED_OUT,
    (_P.RUNNING, ev.WorkflowPaused): _P.PAUSED,
    (_P.PAUSED, ev.WorkflowPaused): _P.PAUSED,
    (_P.PAUSED, ev.WorkflowUnpaused): _P.SUSPENDED,
    (_P.PAUSED, ev.WorkflowTerminated): _P.TERMINATED,
    (_P.DELAYED, ev.WorkflowPaused): _P.HELD,
    (_P.HELD, ev.WorkflowUnpaused): _P.DELAYED,
    (_P.HELD, ev.WorkflowCancelled): _P.CANCELLED,
    (_P.HELD, ev.WorkflowTerminated): _P.TERMINATED,
}

STORM: Final = 10
STORM_US: Final = 1_000_000
"""After this number of cancellations of a run, one per this interval (microseconds) is recorded: a
storm of them must neither fill the history nor interrupt the cleaning up for ever."""


# ---- decide


def _cancel(run: RunState, command: cm.CancelWorkflow, stamp: Stamp) -> Decision:
    if (reply := requests.repeated(run.requests, command, run.run_id)) is not None:
        return Decision(reply=reply)
    if (refused := _other_run(run, command)) is not None:
        return refused
    accepted = Accepted(command.request_id, run.run_id)
    if run.cancels >= STORM and stamp.at < run.cancelled_at + STORM_US:
        return Decision(reply=accepted)  # it asks for what was just asked for
    requested = ev.WorkflowCancelRequested(command.reason, command.request_id)
    if run.phase is Phase.DELAYED or run.phase is Phase.HELD:  # no code runs yet that could clean up
        return Decision((requested, ev.WorkflowCancelled(command.reason)), accepted)
    return Decision((requested,), accepted)


def _terminate(run: RunState, command: cm.TerminateWorkflow, stamp: Stamp) -> Decision:
    if (refused := _other_run(run, command)) is not None:
        return refused
    terminated = ev.WorkflowTerminated(command.reason, command.request_id)
    return Decision((terminated,), Accepted(command.request_id, run.run_id))


def _other_run(run: RunState, command: cm.CancelWorkflow | cm.TerminateWorkflow) -> Decision | None:
    """The refusal of a command that addresses the run of one start, if this run is from another
    start; else None.
    """
    if command.started_by in ("", run.started.request_id):
        return None
    message = f"the run of workflow {run.workflow_id!r} that is open was started by another request"
    return Decision(reply=Refused(command.request_id, "closed", message, run.run_id))


def _expire(run: RunState, command: cm.ExpireWorkflow, stamp: Stamp) -> Decision:
    # anyone writes commands: one that no timer of ours has made changes nothing
    if not run.started.timeout_us or stamp.at < run.times_out_at:
        return NOTHING
    return Decision((ev.WorkflowTimedOut(),))


def _begin(run: RunState, command: cm.BeginWorkflow, stamp: Stamp) -> Decision:
    if run.phase is not Phase.DELAYED or stamp.at < run.started.delayed_until:
        return NOTHING
    return Decision((ev.WorkflowBegun(),))


# ---- record


def _on_started(run: RunState, event: ev.WorkflowStarted, outbox: Outbox | None) -> None:
    if event.requests:
        run.requests.update(((each.kind, each.id), each.content) for each in event.requests)
    if event.tokens:
        token.carry(run, event.tokens, outbox)
    if outbox is not None:
        if event.timeout_us:
            outbox.arm(_timeout_timer(run))
        if event.delayed_until:
            outbox.arm(_begin_timer(run))


def _on_begun(run: RunState, event: ev.WorkflowBegun, outbox: Outbox | None) -> None:
    run.phase = TRANSITIONS[run.phase, ev.WorkflowBegun]
    run.reason = ""
    if outbox is not None:
        outbox.disarm(_begin_timer(run))
    if run.last_at < run.begins_at:  # a signal with a start that is not delayed
        _begin_early(run, outbox)


def _begin_early(run: RunState, outbox: Outbox | None) -> None:
    if outbox is not None and run.started.timeout_us:
        outbox.disarm(_timeout_timer(run))
    run.begins_at = run.last_at
    if outbox is not None and run.started.timeout_us:
        outbox.arm(_timeout_timer(run))


def _on_suspended(run: RunState, event: ev.WorkflowSuspended, outbox: Outbox | None) -> None:
    run.phase = TRANSITIONS[run.phase, ev.WorkflowSuspended]
    run.reason = event.reason


def _on_resumed(run: RunState, event: ev.WorkflowResumed, outbox: Outbox | None) -> None:
    run.phase = TRANSITIONS[run.phase, ev.WorkflowResumed]
    run.reason = ""


def _on_paused(run: RunState, event: ev.WorkflowPaused, outbox: Outbox | None) -> None:
    was_paused = run.phase.is_paused
    run.phase = TRANSITIONS[run.phase, ev.WorkflowPaused]
    run.reason = event.reason
    pause = run.part(Pause)
    pause.by, pause.number, pause.since = event.by, event.number, run.last_at
    if not was_paused:
        pause.event_id = run.last_event_id
    if event.request_id:
        run.requests["pause", event.request_id] = requests.of_asked(event.by, event.reason)


def _on_unpaused(run: RunState, event: ev.WorkflowUnpaused, outbox: Outbox | None) -> None:
    run.phase = TRANSITIONS[run.phase, ev.WorkflowUnpaused]
    run.reason = ""
    if event.request_id:
        run.requests["unpause", event.request_id] = requests.of_asked(event.by, event.reason)


def _on_cancel_requested(run: RunState, event: ev.WorkflowCancelRequested, outbox: Outbox | None) -> None:
    run.cancel_reason = event.reason
    run.cancels += 1
    run.cancelled_at = run.last_at
    if event.request_id:
        run.requests["cancel", event.request_id] = requests.of_reason(event.reason)


def _end(run: RunState, event: Any, reason: str = "") -> None:
    run.phase = TRANSITIONS[run.phase, type(event)]
    run.closed_at = run.last_at
    run.reason = reason


def _on_completed(run: RunState, event: ev.WorkflowCompleted, outbox: Outbox | None) -> None:
    _end(run, event)
    run.result = event.result


def _on_failed(run: RunState, event: ev.WorkflowFailed, outbox: Outbox | None) -> None:
    _end(run, event)
    run.failure = event.failure
    if outbox is not None:
        outbox.failed(run, event)


def _on_timed_out(run: RunState, event: ev.WorkflowTimedOut, outbox: Outbox | None) -> None:
    _end(run, event)
    if outbox is not None:
        outbox.failed(run, event)


def _on_cancelled(run: RunState, event: ev.WorkflowCancelled, outbox: Outbox | None) -> None:
    _end(run, event, event.reason)


def _on_terminated(run: RunState, event: ev.WorkflowTerminated, outbox: Outbox | None) -> None:
    _end(run, event, event.reason)
    if event.request_id:
        run.requests["terminate", event.request_id] = requests.of_reason(event.reason)


def _on_continued(run: RunState, event: ev.WorkflowContinued, outbox: Outbox | None) -> None:
    _end(run, event)
    run.next_run_id = event.next_run_id


def _close(run: RunState, outbox: Outbox | None) -> None:
    if outbox is not None:
        if run.started.timeout_us:
            outbox.disarm(_timeout_timer(run))
        if run.started.delayed_until:
            outbox.disarm(_begin_timer(run))


def _timers(run: RunState) -> Iterator[Timer]:
    if run.started.timeout_us:
        yield _timeout_timer(run)
    if run.phase is Phase.DELAYED or run.phase is Phase.HELD:
        yield _begin_timer(run)


def _timeout_timer(run: RunState) -> Timer:
    return Timer(run.times_out_at, run.run_id, TimerKind.TIMEOUT, 0, run.workflow_id)


def _begin_timer(run: RunState) -> Timer:
    return Timer(run.started.delayed_until, run.run_id, TimerKind.BEGIN, 0, run.workflow_id)


# ---- actions, and what people read


def _complete(run: RunState, action: ac.CompleteWorkflow, token: Callable[[], str]) -> ev.AnyEvent:
    return ev.WorkflowCompleted(action.result)


def _fail(run: RunState, action: ac.FailWorkflow, token: Callable[[], str]) -> ev.AnyEvent:
    return ev.WorkflowFailed(action.failure)


def _continue(run: RunState, action: ac.ContinueAsNew, token: Callable[[], str]) -> ev.AnyEvent:
    return ev.WorkflowContinued(action.input, action.next_run_id)


def _end_cancelled(run: RunState, action: ac.EndCancelled, token: Callable[[], str]) -> ev.AnyEvent:
    return ev.WorkflowCancelled(run.cancel_reason)


def _always(event: Any, action: Any) -> bool:
    """Always true: a run ends once, so the kind of the action is enough."""
    return True


def _in_words(ending: Any) -> str:
    match ending:
        case ac.CompleteWorkflow() | ev.WorkflowCompleted():
            return "the workflow completed"
        case ac.FailWorkflow() | ev.WorkflowFailed():
            return "the workflow failed"
        case ac.ContinueAsNew() | ev.WorkflowContinued():
            return "the workflow continued as new"
        case _:
            return "the workflow cancelled"


def _waits(run: RunState, limit: int) -> list[Wait]:
    if run.phase is Phase.DELAYED:
        return [Wait("start", "", 0, due_at=run.started.delayed_until)]
    return []


MACHINE: Final = Machine(
    name="lifecycle",
    states=Phase,
    transitions=TRANSITIONS,
    decide={
        cm.CancelWorkflow: _cancel,
        cm.TerminateWorkflow: _terminate,
        cm.ExpireWorkflow: _expire,
        cm.BeginWorkflow: _begin,
    },
    handled_elsewhere=frozenset(
        {cm.StartWorkflow, cm.ResumeWorkflow, cm.QueryWorkflow, cm.ReadHistory, cm.DeleteWorkflow},
    ),
    record={
        ev.WorkflowStarted: _on_started,
        ev.WorkflowBegun: _on_begun,
        ev.WorkflowSuspended: _on_suspended,
        ev.WorkflowResumed: _on_resumed,
        ev.WorkflowPaused: _on_paused,
        ev.WorkflowUnpaused: _on_unpaused,
        ev.WorkflowCancelRequested: _on_cancel_requested,
        ev.WorkflowCompleted: _on_completed,
        ev.WorkflowFailed: _on_failed,
        ev.WorkflowCancelled: _on_cancelled,
        ev.WorkflowTerminated: _on_terminated,
        ev.WorkflowTimedOut: _on_timed_out,
        ev.WorkflowContinued: _on_continued,
    },
    actions={
        ac.CompleteWorkflow: ActionRule(
            event=ev.WorkflowCompleted,
            to_event=_complete,
            fits=_always,
            in_words=_in_words,
        ),
        ac.FailWorkflow: ActionRule(
            event=ev.WorkflowFailed,
            to_event=_fail,
            fits=_always,
            in_words=_in_words,
        ),
        ac.ContinueAsNew: ActionRule(
            event=ev.WorkflowContinued,
            to_event=_continue,
            fits=_always,
            in_words=_in_words,
        ),
        ac.EndCancelled: ActionRule(
            event=ev.WorkflowCancelled,
            to_event=_end_cancelled,
            fits=_always,
            in_words=_in_words,
        ),
    },
    wakes=frozenset({ev.WorkflowStarted, ev.WorkflowBegun, ev.WorkflowCancelRequested}),
    due={
        TimerKind.TIMEOUT: lambda timer: cm.ExpireWorkflow(timer.workflow_id, timer.run_id),
        TimerKind.BEGIN: lambda timer: cm.BeginWorkflow(timer.workflow_id, timer.run_id),
    },
    waits=_waits,
    timers=_timers,
    close=_close,
)
