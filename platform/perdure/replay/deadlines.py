"""Converts asyncio's seconds, which are floats, to the integer microseconds of durable timers.
Rounds up, so that no timer is early.
"""

from __future__ import annotations

from math import ceil, isnan
from typing import Final

from perdure.model.duration import LATEST_US

LATEST: Final = LATEST_US
"""The latest time of a timer; later ones are cut to it."""

CLOCK_SURPLUS: Final = 0.49
"""The part of a microsecond that is not rounded up in a time of day: a float of seconds since 1970
is exact to a quarter of a microsecond, and from 2038 to half of one. `loop.call_at(loop.time() +
1)` must fire in exactly one second."""


def microseconds(seconds: float, *, surplus: float = 1e-3) -> int:
    """The microseconds of a time in seconds, rounded up but for `surplus`.

    Raises:
        ValueError: not a number.
    """
    if isnan(seconds):
        raise ValueError("a time must be a number, not NaN")
    return ceil(min(seconds * 1e6, float(LATEST)) - surplus)
