"""Status of a projector: what it waits for, its lag and counters. Read by health checks and metrics
from any thread.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from perdure.engine.operator_log import Report
    from perdure.ports.projection import Partition

FIRST_S: Final = 1.0
"""A wait is reported when it has lasted this long, seconds."""
RETRY_AFTER_S: Final = 30.0
"""And again after this time, seconds."""


@dataclass(slots=True)
class Counts:
    """Since the process began.

    Attributes:
        events: rows of events written.
        states: rows of workflows written.
        transactions: committed.
        unreadable: records that could not be decoded.
        rows_without_values: rows whose values PostgreSQL does not take.
        fenced: times that another projector had taken a partition.
        deleted: workflows that were deleted because their retention had ended.
    """

    events: int = 0
    states: int = 0
    transactions: int = 0
    unreadable: int = 0
    rows_without_values: int = 0
    fenced: int = 0
    deleted: int = 0


@dataclass(slots=True)
class Progress:
    """Status of a projector.

    Attributes:
        report: receives messages for the operator.
        waiting_for: as text; empty: nothing.
        trouble: the last thing a Kafka client said was wrong.
        lag: records of a partition that are not in the tables yet.
        pulse: when its loop made its last turn, monotonic seconds; 0: it has not begun.
    """

    report: Report
    waiting_for: str = "it begins"
    trouble: str = ""
    lag: dict[Partition, int] = field(default_factory=dict["Partition", int])
    counts: Counts = field(default_factory=Counts)
    pulse: float = 0.0
    _since: float = 0.0
    _reported_at: float = 0.0

    def waits(self, for_what: str) -> None:
        """Note a wait; called repeatedly while it lasts. It is reported once it has lasted a
        while.
        """
        now = time.monotonic()
        if not self._since:
            self._since, self._reported_at = now, 0.0
        self.waiting_for = for_what
        lasts_s = now - self._since
        if lasts_s < FIRST_S or (self._reported_at and now - self._reported_at < RETRY_AFTER_S):
            return
        self._reported_at = now
        self.report(f"{for_what}; waiting for {lasts_s:.0f} s; no data lost")

    def clear_wait(self) -> None:
        """Note that the wait is over."""
        if self._reported_at:
            self.report(f"the projector continues after {time.monotonic() - self._since:.0f} s")
        self.waiting_for = self.trouble = ""
        self._since = self._reported_at = 0.0

    def on_trouble(self, message: str) -> None:
        """Note a problem that a Kafka client reports; the client retries on its own."""
        self.trouble = message
