"""State of a run, folded from its events: data only. The rules are in `machines`; nothing else
writes here.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, TypeVar

from perdure.core import flags, requests
from perdure.model import events as ev
from perdure.model.failure import FailureInfo
from perdure.model.options import ActivityOptions
from perdure.model.states import Status

P = TypeVar("P")


class Phase(IntEnum):
    """Phase of a run."""

    DELAYED = 1
    RUNNING = 2
    SUSPENDED = 3
    PAUSED = 4
    HELD = 5  # paused before its code began
    COMPLETED = 6
    FAILED = 7
    CANCELLED = 8
    TERMINATED = 9
    TIMED_OUT = 10
    CONTINUED = 11

    @property
    def is_closed(self) -> bool:
        """Whether the run has ended."""
        return self >= Phase.COMPLETED

    @property
    def is_paused(self) -> bool:
        """Whether the run is paused, before or after its code began."""
        return self is Phase.PAUSED or self is Phase.HELD


STATUS: Final[dict[Phase, Status]] = {
    Phase.DELAYED: Status.RUNNING,
    Phase.RUNNING: Status.RUNNING,
    Phase.SUSPENDED: Status.SUSPENDED,
    Phase.PAUSED: Status.PAUSED,
    Phase.HELD: Status.PAUSED,
    Phase.COMPLETED: Status.COMPLETED,
    Phase.FAILED: Status.FAILED,
    Phase.CANCELLED: Status.CANCELLED,
    Phase.TERMINATED: Status.TERMINATED,
    Phase.TIMED_OUT: Status.TIMED_OUT,
    Phase.CONTINUED: Status.COMPLETED,  # of the run; the workflow has the status of the next one
}
"""The public status of each phase."""


class ActivityStatus(IntEnum):
    """Status of an activity."""

    DISPATCHED = 1
    STARTED = 2
    BACKING_OFF = 3
    COMPLETED = 4
    FAILED = 5
    CANCELLED = 6
    DEFERRED = 7
    STOPPING = 8
    EXHAUSTED = 9


class ActivityState:
    """An open activity.

    Attributes:
        failure: of the last attempt that failed.
        failed: the attempt that `failure` was recorded with; 0 when none has failed.
        token: of the current attempt; during a back-off, of the next one.
        retry_at: when it is dispatched again, microseconds; 0 unless it waits for a retry or was
            declined.
        declined: why a worker refused it; empty when none has.
        earlier: the attempts before an operator let its retries begin again; `since` is when that
            was, or when it was scheduled.
    """

    __slots__ = (
        "attempt",
        "declined",
        "earlier",
        "failed",
        "failure",
        "input",
        "name",
        "number",
        "options",
        "retry_at",
        "scheduled_at",
        "since",
        "status",
        "token",
        "worker",
    )

    def __init__(self, scheduled: ev.ActivityScheduled, at: int) -> None:
        self.number = scheduled.number
        self.name = scheduled.name
        self.input = scheduled.input
        self.options: ActivityOptions = scheduled.options
        self.token = scheduled.token
        self.scheduled_at = self.since = at
        self.earlier = 0
        self.status: ActivityStatus = ActivityStatus.DISPATCHED
        self.attempt = 1
        self.retry_at = 0
        self.failure: FailureInfo | None = None
        self.failed = 0
        self.worker = ""
        self.declined = ""


class LaterState:
    """An attempt whose result comes from outside, by its token. It is kept when the activity has
    closed, since a repeated answer may arrive at any time.

    Attributes:
        token: of the attempt.
        deferred_at: microseconds.
        expires_at: microseconds.
        answer: a hash of the answer, valid only within this process; 0 when there is none.
    """

    __slots__ = ("answer", "deferred_at", "expires_at", "token")

    def __init__(self, token: str, at: int, expires_at: int) -> None:
        self.token = token
        self.deferred_at = at
        self.expires_at = expires_at
        self.answer = 0


class ChildStatus(IntEnum):
    """Status of a child."""

    REQUESTED = 1
    STARTED = 2
    REFUSED = 3
    COMPLETED = 4
    FAILED = 5
    CANCELLED = 6


class ChildState:
    """An open child.

    Attributes:
        requested: the event that requested it.
        requested_at: microseconds.
        run_id: its run; empty before it has started.
        is_sent: the start was sent; false while too many other starts await their answers.
        is_cancelled: it was asked to stop.
    """

    __slots__ = ("is_cancelled", "is_sent", "requested", "requested_at", "run_id", "status")

    def __init__(self, requested: ev.ChildRequested, at: int) -> None:
        self.requested = requested
        self.requested_at = at
        self.run_id = ""
        self.status: ChildStatus = ChildStatus.REQUESTED
        self.is_sent = self.is_cancelled = False


class TokenStatus(IntEnum):
    """Status of a token."""

    OPEN = 1
    RESOLVED = 2
    FAILED = 3
    EXPIRED = 4


class TokenState:
    """A token, open or answered: it is kept, since a repeated answer may arrive at any time.

    Attributes:
        issued: the event that issued it.
        issued_at: microseconds.
        answer: a hash of the answer, valid only within this process; 0 when there is none.
        origin: the run that has issued it, and its number there; None: this run.
    """

    __slots__ = ("answer", "issued", "issued_at", "origin", "status")

    def __init__(self, issued: ev.TokenIssued, at: int, origin: tuple[str, int] | None = None) -> None:
        self.issued = issued
        self.origin = origin
        self.issued_at = at
        self.status: TokenStatus = TokenStatus.OPEN
        self.answer = 0


@dataclass(slots=True)
class Pause:
    """Why a run is paused.

    Attributes:
        by: who has paused it; empty: an activity.
        since: microseconds.
        event_id: of the event that stopped the code.
        number: of the activity; 0: a person has paused the run.
    """

    by: str = ""
    since: int = 0
    event_id: int = 0
    number: int = 0


class RunState:
    """A run. Mutable and slotted: a batch that aborts drops it, and it is folded again from its
    events.

    Attributes:
        activities: the open ones, by number.
        attributes: JSON of an object, or empty: those of the start, and what the code has set.
        begins_at: when the code begins, or has begun, microseconds.
        abandoned: the numbers of those that the code has left to themselves; None: none.
        timers: the armed ones, number to `fires_at`.
        children: the open ones, by number.
        starting: the number of children whose start was sent and is not answered.
        unsent: the numbers of the children whose start was not sent yet, oldest first.
        tokens: all of them, by number.
        later: the attempts that wait, or have waited, for a result from outside: the last one of
            each activity, by number; None when there was none.
        parts: the state of machines that few runs use, by its class (`part`); None: there is none.
        uncompensated: the message about compensations that failed; empty: none did.
        details: what the code says about the run, for operators.
        cancels: how often a cancellation was recorded.
        cancelled_at: the last time, microseconds.
        requests: kind and id of each recorded request but the start, also of the runs before, to
            the identity of its content (`core.requests`).
        promises: requests of workflows that the run will answer: by subject, the address and the id
            of each.
        updates: the numbers of all that were accepted, by id.
        open_updates: those that have not ended: by number, the id, the name and when it was
            accepted, microseconds.
        ended_updates: the ids of the events that say how the others have ended, by number.
        next_run_id: the id of the run that continues this one; empty when none does.
        last_hash: the hash of the last record; empty before the first.
        input_partition: the partition of the last command that a record covers; -1 when there is
            none.
        input_offset: the offset of that command.
    """

    __slots__ = (
        "abandoned",
        "activities",
        "attributes",
        "begins_at",
        "cancel_reason",
        "cancelled_at",
        "cancels",
        "children",
        "closed_at",
        "details",
        "ended_updates",
        "failure",
        "input_offset",
        "input_partition",
        "last_at",
        "last_event_id",
        "last_hash",
        "later",
        "next_run_id",
        "open_updates",
        "parts",
        "phase",
        "promises",
        "reason",
        "requests",
        "result",
        "run_id",
        "started",
        "started_at",
        "starting",
        "timers",
        "tokens",
        "uncompensated",
        "unsent",
        "updates",
        "workflow_id",
    )

    def __init__(self, workflow_id: str, run_id: str, started: ev.WorkflowStarted, at: int) -> None:
        self.workflow_id = workflow_id
        self.run_id = run_id
        self.started = started
        self.started_at = self.last_at = at
        self.begins_at = started.delayed_until or at
        self.attributes = started.attributes
        self.phase: Phase = Phase.DELAYED if started.delayed_until else Phase.RUNNING
        self.last_event_id = 1
        self.last_hash = b""
        self.closed_at = 0
        self.cancel_reason = ""
        self.result = b""
        self.failure: FailureInfo | None = None
        self.reason = ""
        self.activities: dict[int, ActivityState] = {}
        self.abandoned: set[int] | None = None
        self.timers: dict[int, int] = {}
        self.children: dict[int, ChildState] = {}
        self.starting = 0
        self.unsent: deque[int] | None = None
        self.next_run_id = ""
        self.updates: dict[str, int] = {}
        self.open_updates: dict[int, tuple[str, str, int]] = {}
        self.ended_updates: dict[int, int] = {}
        self.tokens: dict[int, TokenState] = {}
        self.later: dict[int, LaterState] | None = None
        self.parts: dict[type[Any], Any] | None = None
        self.uncompensated = ""
        self.details = ""
        self.cancels = 0
        self.cancelled_at = 0
        self.input_partition = self.input_offset = -1
        self.requests: dict[requests.Key, int] = {}
        self.promises: dict[str, dict[tuple[str, str], None]] = {}

    def part(self, kind: type[P]) -> P:
        """The state that a machine keeps in the run, an object of its own class; empty at first.

        Args:
            kind: the class, a `dict` or `set` of its own name; called without arguments.
        """
        if self.parts is None:
            self.parts = {}
        found: P | None = self.parts.get(kind)
        if found is None:
            found = self.parts[kind] = kind()
        return found

    def answers_to(self, run_id: str) -> bool:
        """Whether this run handles commands for that run: it is that run, or continues it.

        Args:
            run_id: of the command; empty: the current run.
        """
        return run_id in ("", self.run_id) or run_id == self.started.first_run_id

    @property
    def times_out_at(self) -> int:
        """When the timeout of the run expires, if it has one, microseconds."""
        is_of_code = flags.has(self.started.flags, flags.Flag.TIMEOUT_FROM_BEGIN)
        return (self.begins_at if is_of_code else self.started_at) + self.started.timeout_us

    @property
    def explanation(self) -> str:
        """The reason of the status, and which steps were not undone; empty: there is nothing to
        say.
        """
        if not self.uncompensated:
            return self.reason
        return f"{self.reason}; {self.uncompensated}" if self.reason else self.uncompensated

    @property
    def type(self) -> str:
        """The workflow type's name."""
        return self.started.type

    @property
    def status(self) -> Status:
        """The public status."""
        return STATUS[self.phase]
