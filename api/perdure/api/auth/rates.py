"""Rate limit: requests per second, for each caller."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

REQUESTS_PER_S: Final = 1_000.0
BURST_S: Final = 2.0
"""A caller that has been idle for this long may send a burst of this many seconds' requests."""
KNOWN: Final = 10_000
"""Number of callers remembered; above it, idle callers are dropped."""


class RateLimit:
    """A token bucket for each caller. Belongs to one asyncio loop.

    Args:
        per_s: requests a second; 0 for no limit.
        now: a monotonic clock, seconds.
    """

    def __init__(self, per_s: float = REQUESTS_PER_S, now: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._most = max(1.0, per_s * BURST_S)
        self._now = now
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, who: str) -> int:
        """Count a request.

        Args:
            who: the caller's name.

        Returns:
            0 if the request is within the limit, else the seconds after which to retry.
        """
        if not self._per_s:
            return 0
        now = self._now()
        left, at = self._left.get(who, (self._most, now))
        left = min(self._most, left + (now - at) * self._per_s)
        if left < 1:
            self._left[who] = left, now
            return max(1, math.ceil((1 - left) / self._per_s))
        self._left[who] = left - 1, now
        if len(self._left) > KNOWN:
            self._forget(now)
        return 0

    def _forget(self, now: float) -> None:
        full = [
            who for who, (left, at) in self._left.items() if left + (now - at) * self._per_s >= self._most
        ]
        for who in full or list(self._left)[: KNOWN // 10]:
            del self._left[who]
