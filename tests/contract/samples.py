"""Batches and commands such as an engine would write and take."""

from __future__ import annotations

from perdure.codec.records import encode_event_record
from perdure.engine.ports import Batch
from perdure.model.commands import AnyCommand, SignalWorkflow
from perdure.model.events import AnyEvent, EventRecord, SignalReceived, WorkflowStarted
from perdure.model.replies import Accepted
from perdure.model.states import UNPAUSE, Status, Wait, WorkflowState
from perdure.model.tasks import Task
from perdure.model.timers import Timer, TimerKind

ELSEWHERE = "udp:9:somebody"
"""The address of another process; nobody listens on the port."""
MEMO = b'{"__proto__":null,"by":"Ada"}'
DETAILS = "**late**,\nsince noon"


def commands(*names: str) -> list[AnyCommand]:
    return [SignalWorkflow("w", name=name, request_id=name) for name in names]


def sent(*commands: AnyCommand, at: int = 1) -> Batch:
    """A batch that sends commands."""
    return Batch(at, commands=list(commands))


def names(taken: list[AnyCommand]) -> list[str]:
    return [command.name for command in taken if isinstance(command, SignalWorkflow)]


def record(
    run_id: str = "run-1", first: int = 1, *events: AnyEvent, workflow_id: str = "w", at: int = 1
) -> EventRecord:
    return EventRecord(
        workflow_id,
        run_id,
        first,
        at,
        -1,
        -1,
        b"",
        list(events) or [WorkflowStarted("Order", b"[]", 311, 7, memo=MEMO), SignalReceived("go", b"[]")],
    )


def with_record(batch: Batch, record: EventRecord) -> Batch:
    batch.events.append((record, encode_event_record(record)))
    return batch


def state(
    workflow_id: str = "w",
    run_id: str = "run-1",
    *,
    status: Status = Status.RUNNING,
    type: str = "Order",
    started_at: int = 1,
    view: bytes = b"",
) -> WorkflowState:
    waits = (Wait(UNPAUSE, "ann", 0),) if status is Status.PAUSED else ()  # else it is read as suspended
    return WorkflowState(
        workflow_id,
        run_id,
        type,
        status,
        started_at,
        started_at,
        0,
        2,
        view,
        waits=waits,
        memo=MEMO,
        details=DETAILS,
    )


def task(
    number: int = 1, *, run_id: str = "run-1", queue: str = "default", attempt: int = 1, at: int = 1
) -> Task:
    return Task(
        "w", run_id, number, attempt, f"token-{number}-{attempt}", "charge", queue, b"[]", 1_000, "key", at
    )


def timer(fires_at: int, run_id: str = "run-1", number: int = 1, kind: TimerKind = TimerKind.CODE) -> Timer:
    return Timer(fires_at, run_id, kind, number, "w")


def tasks(*each: Task, at: int = 1) -> Batch:
    batch = Batch(at)
    batch.tasks = {(task.run_id, task.number): task for task in each}
    return batch


def states(*each: WorkflowState, at: int = 1) -> Batch:
    batch = Batch(at)
    batch.states = {state.workflow_id: state for state in each}
    return batch


def replies(address: str, *request_ids: str, at: int = 1) -> Batch:
    batch = Batch(at)
    batch.replies = [(address, Accepted(request_id, "run-1")) for request_id in request_ids]
    return batch
