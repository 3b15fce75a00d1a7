"""Dead letters: records that could not be processed, with the reason and their place. No record is
lost, and none blocks a partition.
"""

from __future__ import annotations

from msgspec import Struct


class RecordHeader(Struct, array_like=True, frozen=True, gc=False):
    """A header of a record, as found. Names may repeat."""

    name: str
    value: bytes | None = None


class DeadLetter(Struct, array_like=True, frozen=True):
    """A record that could not be processed.

    Attributes:
        topic: the topic where it was found.
        partition: its partition.
        offset: its offset.
        timestamp_ms: the record's timestamp, milliseconds; -1 when it has none.
        reason: one word of "undecodable", "unknown_schema", "misrouted", "oversized",
            "unknown_kind", "refused"; later versions may add more. The log uses the same word.
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
