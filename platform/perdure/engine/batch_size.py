"""The size of a batch: as many commands as can be handled in a moment, whatever they cost.

Commands differ a thousandfold: a report takes a tenth of a millisecond, a signal to a run that must
be replayed first takes fifty. A batch of a fixed number of the latter would hold up everybody for a
minute, outlast the transaction of Kafka, and look like an engine that hangs. So the number follows
what the last batch took. A batch of 0.15 s still costs less than a tenth in commits.
"""

from __future__ import annotations

from typing import Final

FIRST: Final = 128
"""While nothing is known of the cost: after a start every run has to be replayed."""


class BatchSize:
    """Of one engine.

    Args:
        most: commands, whatever they cost.
        target_s: how long the commands of one batch should take, seconds; infinite: `most` always.

    Attributes:
        limit: of the commands that the next batch takes from each of its sources.
    """

    __slots__ = ("_most", "_target_us", "limit")

    def __init__(self, most: int, target_s: float) -> None:
        self._most = most
        self._target_us = target_s * 1e6
        self.limit = most if target_s == float("inf") else min(FIRST, most)

    def took(self, commands: int, lasted_us: int) -> None:
        """A batch was handled.

        Args:
            commands: in it.
            lasted_us: how long, microseconds.
        """
        if lasted_us > self._target_us:
            self.limit = max(1, min(self.limit, int(commands * self._target_us / lasted_us)))
        elif self.limit < self._most:
            self.limit = min(self._most, 2 * self.limit)
