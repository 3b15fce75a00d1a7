"""The error for code that runs without ever waiting for a recorded event."""

from __future__ import annotations

from typing import Final

MAX_STEPS: Final = 100_000


class Spinning(BaseException):
    """The code took 100,000 steps in one activation without waiting for anything that is recorded;
    the run is suspended.
    """
