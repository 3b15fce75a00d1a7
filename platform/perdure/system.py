"""The system's clock and random numbers."""

from __future__ import annotations

import os
import time
from binascii import b2a_base64
from os import urandom  # by itself: workflow code is kept from `os.urandom`, and we are called beside it
from typing import Final

_STEADY: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)


def _text_of(bits: bytes) -> str:
    return b2a_base64(bits, newline=False)[:22].decode()


class SystemClock:
    """The time of day, and the monotonic clock."""

    def now(self) -> int:
        """Microseconds since 1970."""
        return time.time_ns() // 1_000

    def elapsed(self) -> int:
        """Microseconds since the machine was started, including the time that it slept, if the
        system counts that.
        """
        return (
            time.clock_gettime_ns(_STEADY) // 1_000 if _STEADY is not None else time.monotonic_ns() // 1_000
        )


_AHEAD: Final = 64
_tokens: Final[list[str]] = []
"""Tokens that were made ahead: the system call costs more than all else that makes one."""


class RandomIds:
    """Ids from the system's random numbers; a run id begins with the time, so that files keep
    neighbours together.
    """

    def run_id(self) -> str:
        """A new run's id: 12 hexadecimal digits of milliseconds, 16 of chance."""
        return f"{time.time_ns() // 1_000_000:012x}-{urandom(8).hex()}"

    def token(self) -> str:
        """An attempt's token, 128 bits: the text of an answer from outside is made of it."""
        while True:
            try:
                return _tokens.pop()
            except IndexError:
                data = urandom(16 * _AHEAD)
                _tokens.extend(_text_of(data[at : at + 16]) for at in range(0, len(data), 16))

    def secret(self) -> str:
        """The secret of a token for outsiders, 128 bits."""
        return urandom(16).hex()

    def seed(self) -> int:
        """A run's random seed, 63 bits."""
        return int.from_bytes(urandom(8), "big") >> 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tokens.clear)  # no two processes use one token
