"""Serialises the decoding and encoding of large data: one thread at a time."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from threading import Lock
from typing import Final

SWITCH_S: Final = 0.0005
"""How long an encoding thread may hold the interpreter lock; Python's default of 5 ms is as long as
a whole request.
"""


class EncodingTurn:
    """Lets one thread encode at a time, and shortens the interpreter's switch interval while it
    does.

    Requests for single states then wait for one short interval only, not for several long ones.
    """

    def __init__(self) -> None:
        self._lock = Lock()

    @contextmanager
    def __call__(self) -> Generator[None]:
        """Context manager: wait for the turn, hold it for one page, and pass it on."""
        with self._lock:
            before = sys.getswitchinterval()
            sys.setswitchinterval(SWITCH_S)
            try:
                yield
            finally:
                sys.setswitchinterval(before)
