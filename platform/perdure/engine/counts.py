"""Counters of the engine: plain integers that its own thread increments and other threads read.

Nothing here is called per command: a batch costs a few additions, whether metrics are read or not.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from enum import StrEnum
from itertools import chain
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from perdure.engine.ports import Batch

SIZES: Final = (1, 3, 10, 30, 100, 300, 1_000)
"""Upper bounds of buckets: commands."""
TIMES_US: Final = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 5_000_000)
"""The same, microseconds."""


class Buckets:
    """A histogram.

    Args:
        bounds: the upper bounds, inclusive; one more bucket takes what is above.

    Attributes:
        counts: of the values in each bucket alone.
        total: of the values.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[int]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0

    def add(self, value: int) -> None:
        """One more value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class LoopPhase(StrEnum):
    """Activity of the engine's loop."""

    CLOSED = "closed"
    OPENING = "opening"
    TAKING = "taking"
    HANDLING = "handling"
    COMMITTING = "committing"


class Pulse:
    """Current activity of the loop and its start time, to distinguish a waiting loop from a hanging
    one.

    Attributes:
        doing: the current activity.
        since_ns: when the activity began, monotonic nanoseconds.
        limit_s: the longest that the activity may take, as far as the engine knows, seconds.
        trouble: why the last batch was not committed; empty when it was.
    """

    __slots__ = ("doing", "limit_s", "since_ns", "trouble")

    def __init__(self) -> None:
        self.doing = LoopPhase.CLOSED
        self.since_ns = monotonic_ns()
        self.limit_s = 0.0
        self.trouble = ""

    def turn(self, doing: LoopPhase, limit_s: float = 0.0) -> int:
        """Record that the loop starts another activity.

        Returns:
            How long the previous activity lasted, microseconds.
        """
        now_ns = monotonic_ns()
        lasted_us = (now_ns - self.since_ns) // 1_000
        self.doing, self.since_ns, self.limit_s = doing, now_ns, limit_s
        return lasted_us


class Counts:
    """Counts since the engine was created.

    Attributes:
        commands: handled commands by type; those of an aborted batch count each time.
        events: recorded events by type.
        tasks: dispatched tasks, including steps that outlived their batch.
        aborted: batches that were not committed.
        poisoned: commands that failed their batch.
        letters: commands that became dead letters, by reason.
        batch_commands: committed batches by size.
        batch_us: committed batches by the time from the first command to the end of the commit.
        transaction_us: committed batches by the time of the commit alone.
        removed: closed runs that were removed.
        oldest_due_us: how long the run that is due the longest is due, microseconds.
        lateness_us: timers by the delay between the time asked for and the time they fired.
    """

    __slots__ = (
        "aborted",
        "batch_commands",
        "batch_us",
        "commands",
        "events",
        "lateness_us",
        "letters",
        "oldest_due_us",
        "poisoned",
        "removed",
        "tasks",
        "transaction_us",
    )

    def __init__(self) -> None:
        self.commands: Counter[type[Any]] = Counter()
        self.events: Counter[type[Any]] = Counter()
        self.tasks = 0
        self.aborted = 0
        self.poisoned = 0
        self.removed = 0
        self.oldest_due_us = 0
        self.letters: Counter[str] = Counter()
        self.batch_commands = Buckets(SIZES)
        self.batch_us = Buckets(TIMES_US)
        self.transaction_us = Buckets(TIMES_US)
        self.lateness_us = Buckets(TIMES_US)

    def took(self, commands: Iterable[object]) -> None:
        """Count commands that are handled now."""
        self.commands.update(map(type, commands))

    def committed(self, batch: Batch, commands: int, handling_us: int, transaction_us: int) -> None:
        """A batch was committed.

        Args:
            batch: the committed batch.
            commands: the number of commands handled in it.
            handling_us: the time before the commit, microseconds.
            transaction_us: the time of the commit, microseconds.
        """
        self.events.update(map(type, chain.from_iterable([record.events for record, _ in batch.events])))
        self.tasks += len(batch.tasks)
        self.batch_commands.add(commands)
        self.batch_us.add(handling_us + transaction_us)
        self.transaction_us.add(transaction_us)
