"""Whose turn it is to decode and encode what is large: one thread's at a time."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from threading import Lock
from typing import Final

SWITCH_S: Final = 0.0005
"""How long a thread that encodes keeps the interpreter's lock from others; Python's own 5 ms are a request's time."""


class EncodingTurn:
    """The server's loop waits for the interpreter's lock at every step, a switch interval for each thread that wants it, too.

    So only one thread encodes at a time, and the interval is short meanwhile.
    """

    def __init__(self) -> None:
        self._lock = Lock()

    @contextmanager
    def __call__(self) -> Generator[None]:
        """Wait for one's turn, for a page; then it is the next one's."""
        with self._lock:
            before = sys.getswitchinterval()
            sys.setswitchinterval(SWITCH_S)
            try:
                yield
            finally:
                sys.setswitchinterval(before)
