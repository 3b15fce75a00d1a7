"""Reads the fields of any record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.adapters.kafka.headers import headers_of
from perdure.codec.avro import HEADER

if TYPE_CHECKING:
    from confluent_kafka import Message


def header_of(message: Message) -> bytes | None:
    """The value of the header that names a record's schema; None when there is none.

    Raises:
        UndecodableRecord: its headers cannot be read.
    """
    for name, value in headers_of(message):
        if name == HEADER:
            return value if isinstance(value, bytes) else None
    return None
