"""The operations on a run: `decide` reads, `record` writes. The same code live and on reload."""

from __future__ import annotations

from collections.abc import Iterable

from perdure.core import requests
from perdure.core.machine import NOTHING, Decision, Outbox, Stamp
from perdure.core.registry import DECIDE, HELD, RECORD, WAITS
from perdure.core.state import Phase, RunState
from perdure.model import addresses
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.replies import Refused
from perdure.model.retention import ClosedRun
from perdure.model.states import WAITS_TOLD, Wait, WorkflowState


def start(
    workflow_id: str, run_id: str, started: ev.WorkflowStarted, at: int, outbox: Outbox | None = None
) -> RunState:
    """A new run, whose first event is recorded.

    Args:
        workflow_id: its workflow id.
        run_id: its id.
        started: its first event.
        at: of the event, microseconds.
        outbox: the effects are written to it; None: the caller wants only the state.
    """
    run = RunState(workflow_id, run_id, started, at)
    RECORD[ev.WorkflowStarted](run, started, outbox)
    return run


def decide(run: RunState, command: cm.AnyCommand, stamp: Stamp) -> Decision:
    """Decide a command for an existing run.

    A request that is refused leaves no event and gets a `Refused`; a report that comes late leaves
    `CommandIgnored` in an open run. Starts are in `start.py`: they concern two runs.

    Args:
        run: only read. May be closed.
        command: any that has a decision (`registry.DECIDE`); the others leave no event in the run.
        stamp: the time, and fresh tokens.
    """
    if run.phase is not Phase.RUNNING:
        if run.phase.is_closed:
            return _of_closed(run, command, stamp)
        if run.phase.is_paused and type(command) in HELD:
            return NOTHING
    return DECIDE[type(command)](run, command, stamp)


def record(run: RunState, event: ev.AnyEvent, at: int, outbox: Outbox | None = None) -> None:
    """Apply one event, whose id is `run.last_event_id + 1`, to the run, and write its effects,
    which happen once the event is durable.

    Args:
        run: written.
        event: any but WorkflowStarted, which makes the run (`start`).
        at: of the event's record, microseconds.
        outbox: gets the effects: tasks, timers, records; None: the event is replayed and has had
            its effects.

    Raises:
        KeyError: a machine's table has no such row: a bug of ours.
    """
    run.last_event_id += 1
    run.last_at = at
    RECORD[type(event)](run, event, outbox)


def take_over(run: RunState | None, recorded: ev.EventRecord, outbox: Outbox | None = None) -> RunState:
    """Apply one record of the history to the run.

    Args:
        run: the state after the previous records; it is changed. None: this is the first record.
        recorded: the next one.
        outbox: as in `record`.

    Raises:
        ValueError: the history has a gap, or does not begin with WorkflowStarted.
    """
    events: Iterable[ev.AnyEvent] = recorded.events
    if run is None:
        first = recorded.events[0]
        if recorded.first_event_id != 1 or not isinstance(first, ev.WorkflowStarted):
            raise ValueError(
                f"the history of run {recorded.run_id} does not begin with WorkflowStarted, but with event "
                f"{recorded.first_event_id}, {type(first).__name__}"
            )
        run = start(recorded.workflow_id, recorded.run_id, first, recorded.at, outbox)
        events = recorded.events[1:]
    elif recorded.first_event_id != run.last_event_id + 1:
        raise ValueError(
            f"the history of run {recorded.run_id} has a gap after event {run.last_event_id}: "
            f"{recorded.first_event_id} is the next"
        )
    for event in events:
        record(run, event, recorded.at, outbox)
    run.input_partition, run.input_offset = recorded.input_partition, recorded.input_offset
    return run


def fold(records: Iterable[ev.EventRecord], run: RunState | None = None) -> RunState:
    """The state that a history leads to.

    Args:
        records: at least one, in order. `last_hash`, which is of bytes, stays empty.
        run: the state after the previous records; it is changed. None: `records` begins with the
            first one.

    Raises:
        ValueError: the history has a gap, or does not begin with WorkflowStarted.
    """
    for each in records:
        run = take_over(run, each)
    if run is None:
        raise ValueError("an empty history")
    return run


def public_state(run: RunState, view: bytes, view_fault: str = "") -> WorkflowState:
    """The public state of a run.

    Args:
        run: only read.
        view: the last view.
        view_fault: why the view is not the current one; empty when it is.
    """
    return WorkflowState(
        workflow_id=run.workflow_id,
        run_id=run.run_id,
        type=run.started.type,
        status=run.status,
        started_at=run.started_at,
        updated_at=run.last_at,
        closed_at=run.closed_at,
        history_length=run.last_event_id,
        view=view,
        attributes=run.attributes,
        result=run.result,
        failure=run.failure,
        # for most runs their reason says all: this spares them a call after each batch
        reason=(run.explanation if run.uncompensated else run.reason) or view_fault,
        waits=waits_of(run),
        input_partition=run.input_partition,
        input_offset=run.input_offset,
        parent=addresses.workflow_of(run.started.parent) if run.started.parent else "",
        memo=run.started.memo,
        details=run.details,
    )


def closed_run(run: RunState) -> ClosedRun:
    """A run that has closed, as it is found when it is due for removal."""
    return ClosedRun(run.started.type, run.status, run.closed_at, run.run_id, run.workflow_id)


def waits_of(run: RunState) -> tuple[Wait, ...]:
    """The run's waits, except signals and conditions; at most `WAITS_TOLD` entries."""
    if run.closed_at:
        return ()
    waits: list[Wait] = []
    for waits_for in WAITS.of(run):
        waits += waits_for(run, WAITS_TOLD - len(waits))
        if len(waits) >= WAITS_TOLD:
            break
    return tuple(waits)


def _of_closed(run: RunState, command: cm.AnyCommand, stamp: Stamp) -> Decision:
    if not isinstance(command, cm.Request):
        return NOTHING
    if isinstance(command, cm.AnswerToken):  # it may repeat an answer that the run had
        return DECIDE[type(command)](run, command, stamp)
    if (reply := requests.repeated(run.requests, command, run.run_id)) is not None:
        return Decision(reply=reply)
    message = f"workflow {run.workflow_id!r} is {run.status.value}: a closed run takes no more messages"
    return Decision(reply=Refused(command.request_id, "closed", message, run.run_id))
