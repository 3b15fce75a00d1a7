"""Dead letters: records that could not be taken, with why and from where. None is lost, none stops a partition."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

DEAD_LETTER: Final = "dead-letter:"
"""A reply to this address that is a refusal becomes a dead letter; what follows is topic/partition/offset."""


def place_of_letter(address: str) -> tuple[str, int, int] | None:
    """Topic, partition and offset in such an address; None when it is not one of these, or does not parse."""
    if not address.startswith(DEAD_LETTER):
        return None
    topic, _, rest = address[len(DEAD_LETTER) :].partition("/")
    partition, _, offset = rest.partition("/")
    number, position = number_of(partition, 2**31), number_of(offset, 2**63)
    if not topic or number is None or position is None:
        return None
    return topic, number, position


def number_of(text: str, below: int) -> int | None:
    """A number that is written with ASCII digits; None when it is none, or not below `below`."""
    if not (text.isascii() and text.isdigit() and len(text) <= 19):  # `int` itself refuses thousands of digits
        return None
    number = int(text)
    return number if number < below else None


class RecordHeader(Struct, array_like=True, frozen=True, gc=False):
    """A header of a record, as found. Names may repeat."""

    name: str
    value: bytes | None = None


class DeadLetter(Struct, array_like=True, frozen=True):
    """A record that could not be taken.

    Attributes:
        topic: where it was found.
        partition: the same.
        offset: the same.
        timestamp_ms: of the record, milliseconds; -1 when it has none.
        reason: one word of "undecodable", "unknown_schema", "misrouted", "oversized", "unknown_kind"; more may come.
        message: what is wrong, for people.
        found_at: microseconds.
        key: as found.
        value: as found; None for a tombstone.
        headers: as found, in order.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    reason: str
    message: str
    found_at: int
    key: bytes | None
    value: bytes | None
    headers: tuple[RecordHeader, ...] = ()
