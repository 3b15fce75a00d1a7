"""Status of the Kafka log: what it waits for, owns and has counted. Read by health checks and
metrics from any thread.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from perdure.engine.operator_log import ThrottledReport

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from perdure.engine.operator_log import Report

_logger: Final = logging.getLogger("perdure.kafka")
_engine: Final = logging.getLogger("perdure.engine")
_worker: Final = logging.getLogger("perdure.worker")

REPORT_AFTER_S: Final = 1.0
"""A wait is reported when it has lasted this long, seconds."""

REPEAT_AFTER_S: Final = 30.0
"""And again after this time, seconds."""


def to_logger(message: str, /, **where: str | int) -> None:
    """The default report."""
    _logger.warning(message, extra=where)


def never() -> bool:
    """For a status of clients that nothing watches."""
    return False


@dataclass(slots=True)
class Counts:
    """Since the process began.

    Attributes:
        transactions: committed, claims included.
        aborted: not committed, and done again.
        fenced: lost to another producer, partitions given up.
        claimed: partitions that were taken over.
        owners_fenced: owners that were stuck and stopped from outside.
        events_ahead: partitions whose events were ahead of the committed offset. An alarm: a
            transaction was split.
        dead_letters: records that could not be taken.
        rerouted: commands that were found on the wrong partition.
        forwarded: commands of this process for partitions of other engines.
        undeliverable: replies and tasks whose topic or partition does not exist.
    """

    transactions: int = 0
    aborted: int = 0
    fenced: int = 0
    claimed: int = 0
    owners_fenced: int = 0
    events_ahead: int = 0
    dead_letters: int = 0
    rerouted: int = 0
    forwarded: int = 0
    undeliverable: int = 0


@dataclass(slots=True)
class Stall:
    """A wait, as health checks and metrics see it.

    Attributes:
        report: called with what an operator should know.
        is_away: whether the cluster of these clients cannot be reached: that is reported once for
            all clients of the process.
        waiting_for: as text; empty: nothing.
        since: monotonic, seconds.
    """

    report: Report
    is_away: Callable[[], bool] = never
    waiting_for: str = ""
    since: float = 0.0
    _reported_at: float = 0.0

    def waits(self, for_what: str, trouble: str = "") -> None:
        """Note the wait; called repeatedly while it lasts. It is reported once it has lasted a
        while.
        """
        now = time.monotonic()
        if not self.waiting_for:
            self.since, self._reported_at = now, 0.0
        self.waiting_for = f"{for_what} ({trouble})" if trouble else for_what
        lasts_s = now - self.since
        if self.is_away():  # `reachability.py` reports it, once for all clients of the process
            return
        if lasts_s < REPORT_AFTER_S or (self._reported_at and now - self._reported_at < REPEAT_AFTER_S):
            return
        self._reported_at = now
        self.report(f"waiting for the broker: {self.waiting_for}, for {lasts_s:.0f} s; no data lost")

    def is_over(self) -> None:
        """Note that the wait is over."""
        if not self.waiting_for:
            return
        if self._reported_at:
            self.report(f"the broker responds again after {time.monotonic() - self.since:.0f} s")
        self.waiting_for = ""


class Status:
    """Status of the Kafka log.

    Args:
        report: called with what an operator should know.
        is_away: whether the cluster of the clients cannot be reached (`EngineClients.is_away`);
            their waits are not reported then.

    Attributes:
        report_letter: the same, about dead letters: a line a second at most.
        trouble: the last thing a Kafka client said was wrong; empty when all is well.
        owned: partitions whose commands are handed out.
        restoring: partitions that are being taken over, with the events still to be restored.
        joining: task queues whose group of workers has not taken us in yet.
        last_transaction_s: how long the last one took.
        is_lag_wanted: set by the reader of `lag`, which is kept up to date from then on.
        lag: by partition that is owned, the commands that have not been taken.
    """

    def __init__(self, report: Report = to_logger, *, is_away: Callable[[], bool] = never) -> None:
        self.report = report
        self.report_letter = ThrottledReport(report)
        self.trouble = ""
        self.owned: frozenset[int] = frozenset()
        self.restoring: dict[int, int] = {}
        self.joining: set[str] = set()
        self.last_transaction_s = 0.0
        self.is_lag_wanted = False
        self.lag: dict[int, int] = {}
        self.counts = Counts()
        self._stalls = (Stall(report, is_away), Stall(report, is_away))

    @property
    def waiting_for(self) -> str:
        """The current wait of the engine's thread or the takeover, as text; empty: none."""
        return "; ".join(stall.waiting_for for stall in self._stalls if stall.waiting_for)

    def owns(self, partitions: Collection[int]) -> None:
        """These partitions' commands are handed out from now on, and no others."""
        gained, lost = sorted({*partitions} - self.owned), sorted(self.owned - {*partitions})
        self.owned = frozenset(partitions)
        for word, changed in (("gained", gained), ("released", lost)):
            if changed:
                _engine.info(
                    "%s partitions %s; %d are owned now", word, ", ".join(map(str, changed)), len(self.owned)
                )

    def joined(self, queue: str, partitions: Collection[int]) -> None:
        """The workers of a task queue have taken this one in."""
        self.joining.discard(queue)
        _worker.info(
            "joined queue %s; gained partitions %s",
            queue,
            ", ".join(map(str, sorted(partitions))) or "none yet",
        )

    def waits(self, for_what: str) -> None:
        """Note that the engine's thread waits; called repeatedly while it lasts."""
        self._stalls[0].waits(for_what, self.trouble)

    def clear_wait(self) -> None:
        """Note that the engine's thread does not wait any more."""
        if self._stalls[0].waiting_for:
            self._stalls[0].is_over()
            self.trouble = ""

    def waits_to_take_over(self, for_what: str) -> None:
        """The same, of the takeover's thread."""
        self._stalls[1].waits(for_what, self.trouble)

    def clear_takeover_wait(self) -> None:
        """The same, of the takeover's thread."""
        self._stalls[1].is_over()
