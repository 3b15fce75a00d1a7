"""The machine of a run as a whole: delayed, running, suspended, closed."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from perdure.model import events as ev
from perdure.model.states import Status


class Phase(IntEnum):
    """Where a run is."""

    DELAYED = 1
    RUNNING = 2
    SUSPENDED = 3
    COMPLETED = 4
    FAILED = 5
    CANCELLED = 6
    TERMINATED = 7
    TIMED_OUT = 8

    @property
    def is_closed(self) -> bool:
        """Whether the run has ended."""
        return self >= Phase.COMPLETED


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
    (_P.SUSPENDED, ev.WorkflowResumed): _P.RUNNING,
    (_P.SUSPENDED, ev.WorkflowSuspended): _P.SUSPENDED,
    (_P.SUSPENDED, ev.WorkflowTerminated): _P.TERMINATED,
    (_P.SUSPENDED, ev.WorkflowTimedOut): _P.TIMED_OUT,
}

STATUS: Final[dict[Phase, Status]] = {
    _P.DELAYED: Status.RUNNING,
    _P.RUNNING: Status.RUNNING,
    _P.SUSPENDED: Status.SUSPENDED,
    _P.COMPLETED: Status.COMPLETED,
    _P.FAILED: Status.FAILED,
    _P.CANCELLED: Status.CANCELLED,
    _P.TERMINATED: Status.TERMINATED,
    _P.TIMED_OUT: Status.TIMED_OUT,
}
