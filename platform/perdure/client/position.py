"""A position in the event log, returned by every write. A reader that has caught up to it sees that
write.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from perdure.errors import RequestRefused

LARGEST: Final = 2**63 - 1


class Position(Struct, frozen=True, order=True):
    """A place in the events of a platform, written `3-1042`.

    Attributes:
        partition: the partition of the events topic; 0 on one machine.
        offset: the offset after the last event.
    """

    partition: int
    offset: int

    def __str__(self) -> str:
        """The text form."""
        return f"{self.partition}-{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Parse the text form; raises RequestRefused if it is invalid."""
        partition, dash, offset = text.partition("-")
        if not (dash and _is_number(partition) and _is_number(offset)):
            raise RequestRefused(
                f"{text[:60]!r} is not a position: pass one returned by a write, such as 3-1042"
            )
        return cls(int(partition), int(offset))


EVERYTHING: Final = Position(0, 0)
"""The position of readers that always see all completed writes: there is nothing to wait for."""


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= LARGEST
