"""The public state of a workflow, kept by the platform for everybody."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from perdure.model.failure import FailureInfo


class Status(StrEnum):
    """Where a run is."""

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
