"""What is read off any record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.codec.avro import HEADER

if TYPE_CHECKING:
    from confluent_kafka import Message


def header_of(message: Message) -> bytes | None:
    """The value of the header that names a record's schema; None when there is none."""
    headers: Any = message.headers() or ()
    for name, value in headers:
        if name == HEADER:
            return value if isinstance(value, bytes) else None
    return None
