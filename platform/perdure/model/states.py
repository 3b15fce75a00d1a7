"""The public state of a workflow, which the platform stores for readers."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from perdure.model.failure import FailureInfo


class Status(StrEnum):
    """Phase of a run."""

    RUNNING = "running"
    SUSPENDED = "suspended"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TERMINATED = "terminated"
    TIMED_OUT = "timed_out"

    @property
    def is_closed(self) -> bool:
        """Whether the run has ended."""
        return self not in _OPEN


_OPEN = (Status.RUNNING, Status.SUSPENDED, Status.PAUSED)

WAITS_TOLD: Final = 20
"""The most waits that a public state lists; a run may have more."""


class Wait(Struct, array_like=True, frozen=True, gc=False):
    """A wait of a run, except for signals and conditions.

    Attributes:
        kind: `activity`, `answer` to an activity, `timer`, `child`, `message`, `update`, `token`,
            `start`: the code has not begun; `decision`: an operator's, about an activity that has
            failed for good; `unpause`: the run is paused.
        name: the name of the activity or update; for a child or message, the other workflow's id;
            who paused the run; else empty.
        number: the number of the activity, timer, child, message or token, from 1; 0 for a start.
            Of an `unpause`: the activity that paused the run, 0 for a person.
        attempt: the activity's attempt; 0 for others.
        scheduled_at: when the activity, child, message or token was asked for, or the run was
            paused, microseconds; 0 for others.
        due_at: when the timer fires, the token expires, or the next attempt is made; 0 while an
            attempt is dispatched, and for a token without a deadline.
        summary: of a timer or child, one line for people, as the code gave it; else empty.
    """

    kind: str
    name: str
    number: int
    attempt: int = 0
    scheduled_at: int = 0
    due_at: int = 0
    summary: str = ""


class WorkflowState(Struct, array_like=True, frozen=True, omit_defaults=True):
    """The state of a workflow id: of its current run, or of the last one.

    Attributes:
        started_at: microseconds.
        updated_at: the time of the last event.
        closed_at: 0 while the run is open.
        history_length: the number of events so far.
        view: the last value of `@workflow.view`, as JSON; empty when there is none.
        attributes: JSON of an object; empty when there are none.
        result: payload, once completed.
        failure: set once failed.
        reason: why it is suspended or paused, was cancelled or terminated; or why the view is not
            current.
        waits: its waits: activities by number, then timers by their time; at most `WAITS_TOLD`.
        input_partition: the partition of the last command that it reflects; -1: none.
        input_offset: the offset of that command.
        parent: the workflow id of its parent; empty when it has none.
        memo: payload, an object: the memo of its start; empty when it has none.
        details: what the code says about the run, for operators: Markdown; empty: nothing.
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
    memo: bytes = b""
    details: str = ""


UNPAUSE: Final = "unpause"
"""The kind of the wait of a paused run."""


def stored(state: WorkflowState) -> WorkflowState:
    """The state as it is written. The statuses on the wire never change: to a reader of an older
    version, a paused run is a suspended one. One of its waits says that it is paused.
    """
    return replace(state, status=Status.SUSPENDED) if state.status is Status.PAUSED else state


def read(state: WorkflowState) -> WorkflowState:
    """The state that was written as this one."""
    if state.status is Status.SUSPENDED and any(wait.kind == UNPAUSE for wait in state.waits):
        return replace(state, status=Status.PAUSED)
    return state
