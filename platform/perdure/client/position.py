"""Positions: how far the events were when a write had been answered. A reader that is there has seen the write."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from perdure.errors import RequestRefused

LARGEST: Final = 2**63 - 1


class Position(Struct, frozen=True, order=True):
    """A place in the events of a platform, written `3-1042`.

    Attributes:
        partition: of the topic of events; 0 on one machine.
        offset: the offset after the last event that is meant.
    """

    partition: int
    offset: int

    def __str__(self) -> str:
        """As it travels."""
        return f"{self.partition}-{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Raises RequestRefused when it is none."""
        partition, dash, offset = text.partition("-")
        if not (dash and _is_number(partition) and _is_number(offset)):
            raise RequestRefused(f"{text[:60]!r} is no position: give the one that a write has returned, such as 3-1042")
        return cls(int(partition), int(offset))


EVERYTHING: Final = Position(0, 0)
"""Where every reader sees all that was answered before it, there is nothing to wait for."""


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= LARGEST
