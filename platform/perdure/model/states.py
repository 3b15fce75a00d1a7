"""The public state of a workflow, kept by the platform for everybody."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct

from perdure.model.failure import FailureInfo


class Status(StrEnum):
    """Phase of a run."""

    RUNNING = "running"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TERMINATED = "terminated"
    TIMED_OUT = "timed_out"

    @property
    def is_closed(self) -> bool:
        """Whether the run has ended."""
        return self not in _OPEN


_OPEN = (Status.RUNNING, Status.SUSPENDED)

WAITS_TOLD: Final = 20
"""A run may wait for any number of things; its public state names so many."""


class Wait(Struct, array_like=True, frozen=True, gc=False):
    """A wait of a run, except for signals and conditions.

    Attributes:
        kind: `activity`, `answer` to an activity, `timer`, `child`, `message`, `update`, `token`,
            or `start`: the code has not begun.
        name: of the activity; of a child or message, the other workflow's id; of an update;
            else empty.
        number: of the run's activity, timer, child, message or token, from 1; 0 of a start.
        attempt: of the activity; 0 for others.
        scheduled_at: when the activity, child, message or token was asked for, microseconds; 0 for
            others.
        due_at: when the timer fires, the token expires, or the next attempt is made; 0 when an
            attempt is out, or a token does not expire.
    """

    kind: str
    name: str
    number: int
    attempt: int = 0
    scheduled_at: int = 0
    due_at: int = 0


class WorkflowState(Struct, array_like=True, frozen=True, omit_defaults=True):
    """The state of a workflow id: of its current run, or of the last one.

    Attributes:
        started_at: microseconds.
        updated_at: of the last event.
        closed_at: 0 while the run is open.
        history_length: events so far.
        view: JSON of what `@workflow.view` returned last; empty when there is none.
        attributes: JSON of an object; empty when there are none.
        result: payload, once completed.
        failure: once failed.
        reason: why it is suspended, was cancelled or terminated; or why the view could not be kept.
        waits: what it waits for: activities by number, then timers by their time; the first
            `WAITS_TOLD` of them.
        input_partition: where the last command that it reflects came from; -1: nowhere.
        input_offset: the same.
        parent: the id of the workflow whose child it is; empty when it has no parent.
    """

    workflow_id: str
    run_id: str
    type: str
    status: Status
    started_at: int
    updated_at: int
    closed_at: int
    history_length: int
    view: bytes = b""
    attributes: bytes = b""
    result: bytes = b""
    failure: FailureInfo | None = None
    reason: str = ""
    waits: tuple[Wait, ...] = ()
    input_partition: int = -1
    input_offset: int = -1
    parent: str = ""
