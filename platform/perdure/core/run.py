"""The state of a run, and `evolve`, its only writer: the same code live and on reload."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import nsmallest
from itertools import islice
from typing import Any, Final

from perdure.core import lifecycle, requests, timer
from perdure.core.activity import ActivityState
from perdure.core.lifecycle import Phase
from perdure.model import events as ev
from perdure.model.failure import FailureInfo
from perdure.model.states import WAITS_TOLD, Status, Wait, WorkflowState


class RunState:
    """A run, folded from its events. Mutable and slotted: a batch that aborts throws it away and it is folded again.

    Attributes:
        activities: the open ones, by number.
        timers: the armed ones, number to `fires_at`.
        requests: that the history holds: kind and id, to a hash of the content (`core.requests`), which only this process understands.
        last_hash: of the last record; empty before the first.
        input_partition: where the last command came from that a record covers; -1: nowhere.
        input_offset: the same.
    """

    __slots__ = (
        "activities", "cancel_reason", "closed_at", "failure", "input_offset", "input_partition", "last_at", "last_event_id", "last_hash",
        "phase", "reason", "requests", "result", "run_id", "started", "started_at", "timers", "workflow_id",
    )  # fmt: skip

    def __init__(self, workflow_id: str, run_id: str, started: ev.WorkflowStarted, at: int) -> None:
        self.workflow_id = workflow_id
        self.run_id = run_id
        self.started = started
        self.started_at = self.last_at = at
        self.phase: Phase = Phase.DELAYED if started.delayed_until else Phase.RUNNING
        self.last_event_id = 1
        self.last_hash = b""
        self.closed_at = 0
        self.cancel_reason = ""
        self.result = b""
        self.failure: FailureInfo | None = None
        self.reason = ""
        self.activities: dict[int, ActivityState] = {}
        self.timers: dict[int, int] = {}
        self.input_partition = self.input_offset = -1
        self.requests: dict[requests.Key, int] = {}
        if started.request_id:
            self.requests["start", started.request_id] = requests.of_start(started)

    @property
    def type(self) -> str:
        """The workflow type's name."""
        return self.started.type

    @property
    def status(self) -> Status:
        """For the public."""
        return lifecycle.STATUS[self.phase]

    def public(self, view: bytes, view_fault: str = "") -> WorkflowState:
        """The public state, around the view that is kept beside it."""
        return WorkflowState(
            self.workflow_id,
            self.run_id,
            self.started.type,
            self.status,
            self.started_at,
            self.last_at,
            self.closed_at,
            self.last_event_id,
            view,
            self.started.attributes,
            self.result,
            self.failure,
            self.reason or view_fault,
            self._waits(),
            self.input_partition,
            self.input_offset,
        )

    def _waits(self) -> tuple[Wait, ...]:
        if self.phase is Phase.DELAYED:
            return (Wait("start", "", 0, due_at=self.started.delayed_until),)
        if not self.activities and not self.timers:
            return ()
        waits = [
            Wait("activity", each.name, number, each.attempt, each.scheduled_at, each.retry_at)
            for number, each in islice(self.activities.items(), WAITS_TOLD)
        ]
        if self.timers and (room := WAITS_TOLD - len(waits)):
            timers = ((fires_at, number) for number, fires_at in self.timers.items())
            waits += [Wait("timer", "", number, due_at=fires_at) for fires_at, number in nsmallest(room, timers)]
        return tuple(waits)


def evolve(run: RunState, event: ev.AnyEvent, at: int) -> None:
    """Take over one event, whose id is `run.last_event_id + 1`.

    Args:
        run: written.
        event: any but WorkflowStarted, which makes the RunState.
        at: of the event's record, microseconds.

    Raises:
        KeyError: a machine's table has no such row: a bug of ours.
    """
    run.last_event_id += 1
    run.last_at = at
    _EVOLVE[type(event)](run, event)


def fold(records: Iterable[ev.EventRecord], run: RunState | None = None) -> RunState:
    """The state that a history leads to.

    Args:
        records: at least one, in order. `last_hash`, which is of bytes, stays empty.
        run: what the records before have led to; it is changed. None: they begin with the first one.

    Raises:
        ValueError: the history has a gap, or does not begin with WorkflowStarted.
    """
    for record in records:
        events: Iterable[ev.AnyEvent] = record.events
        if run is None:
            first = record.events[0]
            if record.first_event_id != 1 or not isinstance(first, ev.WorkflowStarted):
                raise ValueError(f"the history of run {record.run_id} does not begin with WorkflowStarted")
            run = RunState(record.workflow_id, record.run_id, first, record.at)
            events = record.events[1:]
        elif record.first_event_id != run.last_event_id + 1:
            raise ValueError(f"the history of run {record.run_id} has a gap after event {run.last_event_id}")
        for event in events:
            evolve(run, event, record.at)
        run.input_partition, run.input_offset = record.input_partition, record.input_offset
    if run is None:
        raise ValueError("an empty history")
    return run


def _close(run: RunState, event: Any) -> None:
    run.phase = lifecycle.TRANSITIONS[run.phase, type(event)]
    run.closed_at = run.last_at
    run.reason = ""
    run.activities.clear()
    run.timers.clear()
    match event:
        case ev.WorkflowCompleted():
            run.result = event.result
        case ev.WorkflowFailed():
            run.failure = event.failure
        case ev.WorkflowCancelled():
            run.reason = event.reason
        case ev.WorkflowTerminated():
            run.reason = event.reason
            if event.request_id:
                run.requests["terminate", event.request_id] = hash(event.reason)
        case _:
            pass


def _phase(run: RunState, event: Any) -> None:
    run.phase = lifecycle.TRANSITIONS[run.phase, type(event)]
    run.reason = event.reason if isinstance(event, ev.WorkflowSuspended) else ""


def _cancel_requested(run: RunState, event: ev.WorkflowCancelRequested) -> None:
    run.cancel_reason = event.reason
    if event.request_id:
        run.requests["cancel", event.request_id] = hash(event.reason)


def _signal(run: RunState, event: ev.SignalReceived) -> None:
    if event.request_id:
        run.requests["signal", event.request_id] = requests.of_signal(event.name, event.input)
    elif run.started.request_id:  # the first one without an id came with the start, if one did
        run.requests.setdefault((requests.WITH_START, run.started.request_id), requests.of_signal(event.name, event.input))


def _scheduled(run: RunState, event: ev.ActivityScheduled) -> None:
    run.activities[event.number] = ActivityState(event, run.last_at)


def _activity(run: RunState, event: Any) -> None:
    if not run.activities[event.number].evolve(event):
        del run.activities[event.number]


def _timer(run: RunState, event: Any) -> None:
    timer.evolve(run.timers, event)


def _ignore(run: RunState, event: Any) -> None:
    """A fact that changes nothing."""


_EVOLVE: Final[dict[type[ev.Event], Callable[[RunState, Any], None]]] = {
    ev.WorkflowBegun: _phase,
    ev.WorkflowSuspended: _phase,
    ev.WorkflowResumed: _phase,
    ev.WorkflowCompleted: _close,
    ev.WorkflowFailed: _close,
    ev.WorkflowCancelled: _close,
    ev.WorkflowTerminated: _close,
    ev.WorkflowTimedOut: _close,
    ev.WorkflowCancelRequested: _cancel_requested,
    ev.SignalReceived: _signal,
    ev.ActivityScheduled: _scheduled,
    ev.ActivityStarted: _activity,
    ev.ActivityDeclined: _activity,
    ev.ActivityAttemptFailed: _activity,
    ev.ActivityRetried: _activity,
    ev.ActivityCompleted: _activity,
    ev.ActivityFailed: _activity,
    ev.ActivityCancelRequested: _activity,
    ev.TimerStarted: _timer,
    ev.TimerFired: _timer,
    ev.TimerCancelled: _timer,
    ev.CommandIgnored: _ignore,
    ev.RecordProduced: _ignore,
}
