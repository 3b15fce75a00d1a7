"""The size of a batch: as many commands as can be handled within a target time.

Commands differ a thousandfold: a report takes a tenth of a millisecond, a signal to a run that must
be replayed first takes fifty. A batch of a fixed size with many of the latter would block all other
runs for a minute, exceed Kafka's transaction timeout, and look like a hanging engine. So the size
follows from the time that the last batch took. A batch of 0.15 s still costs less than a tenth in
commits.
"""

from __future__ import annotations

from typing import Final

FIRST: Final = 128
"""The first size, while the cost is unknown: after a start every run has to be replayed."""


class BatchSize:
    """The batch size of one engine.

    Args:
        most: the most commands in a batch.
        target_s: how long the commands of one batch should take, seconds; infinite: `most` always.

    Attributes:
        limit: the most commands that the next batch takes from each of its sources.
    """

    __slots__ = ("_most", "_target_us", "limit")

    def __init__(self, most: int, target_s: float) -> None:
        self._most = most
        self._target_us = target_s * 1e6
        self.limit = most if target_s == float("inf") else min(FIRST, most)

    def took(self, commands: int, lasted_us: int) -> None:
        """Adjust the limit after a batch.

        Args:
            commands: the number handled in the batch.
            lasted_us: how long that took, microseconds.
        """
        if lasted_us > self._target_us:
            self.limit = max(1, min(self.limit, int(commands * self._target_us / lasted_us)))
        elif self.limit < self._most:
            self.limit = min(self._most, 2 * self.limit)
