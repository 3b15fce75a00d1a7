"""The frame of Confluent's clients before a record's bytes: a NUL and the id that a schema registry
gave to its schema, four bytes.
"""

from __future__ import annotations

from typing import Final

from perdure.errors import UndecodableRecord

FRAMED: Final = b"/confluent"
"""Suffix of the header `perdure-schema` of a framed record."""
FRAME_BYTES: Final = 5


def frame(schema_id: int) -> bytes:
    """The bytes before the Avro of a framed record:
    https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/.

    Args:
        schema_id: of the registry.
    """
    return b"\0" + schema_id.to_bytes(4, "big")


def unframed(data: bytes, header: bytes) -> tuple[bytes, bytes]:
    """The Avro of a record, and the header that it would have without a frame.

    Raises:
        UndecodableRecord: the header says that there is a frame, and there is none.
    """
    if not header.endswith(FRAMED):
        return data, header
    if len(data) < FRAME_BYTES or data[0]:
        raise UndecodableRecord(
            "undecodable",
            f"its header {header!r} says that it is framed, but it begins with {data[:FRAME_BYTES]!r}",
        )
    return data[FRAME_BYTES:], header.removesuffix(FRAMED)
