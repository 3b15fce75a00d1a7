"""Streams: values that a run gives out while it runs, and that its history does not have."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

VALUES_AT_ONCE: Final = 10_000
"""Values that a run may write between two events: all of them are in one transaction."""
BYTES_AT_ONCE: Final = 8 * 1024 * 1024
PAGE_BYTES: Final = 256 * 1024
"""A page ends with the value that makes it larger than this: a thousand large values would not fit
into the memory of an API with a thousand readers."""


class StreamRecord(Struct, array_like=True, frozen=True, gc=False):
    """One value of a stream.

    Attributes:
        workflow_id: whose stream it is.
        run_id: the same.
        name: of the stream.
        number: of workflow code: counts the run's values of the stream, from 1; of an activity:
            those of the attempt.
        value: the payload.
        at: when it became durable, microseconds.
        activity: the number of the activity or step that wrote it; 0: workflow code.
        attempt: of the activity, from 1; 0: workflow code.
    """

    workflow_id: str
    run_id: str
    name: str
    number: int
    value: bytes
    at: int
    activity: int = 0
    attempt: int = 0


class StreamPage(Struct, array_like=True, frozen=True):
    """Some values of a stream.

    Attributes:
        values: each with its offset, in their order.
        next: the offset to read on from, which may be that of another stream's value.
    """

    values: list[tuple[int, StreamRecord]]
    next: int
