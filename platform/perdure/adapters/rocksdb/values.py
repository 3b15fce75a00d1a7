"""Values of a partition's RocksDB.

An event record is the name of its schema and its bytes as the topic has them, for its hash is of
those bytes, and decoding Avro costs more than all the rest of a restore; most records belong to
runs that have ended and are never read. For the same reason a restored state is only the id of its
run (`r`), whose history is folded on the first read; a state from a batch is msgpack (`m`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from perdure.codec.avro import EVENTS
from perdure.codec.frames import unframed
from perdure.codec.records import decode_state, encode_state
from perdure.errors import UndecodableRecord
from perdure.model.events import EventRecord
from perdure.model.states import WorkflowState

FORMAT: Final = 2
"""Of keys and values; a directory with another one is rebuilt."""

WITHOUT_CLOSED_RUNS: Final = 1
"""The format before, which has no index of closed runs: it is added."""

_RUN: Final = ord("r")


class Checkpoint(msgspec.Struct, array_like=True, frozen=True):
    """Position and identity of a partition's store, written with every change.

    Attributes:
        format: see there.
        identity: of the events topic.
        partition: its partition.
        offset: of the next record that is not in the store.
        input_offset: the highest one that any record names; -1 when none does.
        latest_at: of the last record or batch, microseconds.
        written_at: by the clock of the machine, microseconds.
        timers_from: no timer has a key before it, so that a scan need not walk over those that were
            deleted.
    """

    format: int
    identity: str
    partition: int
    offset: int
    input_offset: int
    latest_at: int
    written_at: int
    timers_from: bytes


encode_checkpoint: Final = msgspec.msgpack.Encoder().encode
decode_checkpoint: Final = msgspec.msgpack.Decoder(Checkpoint).decode


def of_batch(encoded: bytes) -> bytes:
    """A record that we have written."""
    return _WRITTEN + encoded


def of_topic(value: bytes, header: bytes | None) -> bytes:
    """A record of the events topic, without its frame if it has one: it is the Avro that is
    chained. Not decoded.

    Raises:
        UndecodableRecord: it says that it is none, or of a version that is not known here.
    """
    if header == EVENTS.schema.header:
        return _WRITTEN + value
    if header is not None:
        value, header = unframed(value, header)
    if header is None or not EVENTS.knows(header):
        EVENTS.decode(value, header)  # says why not
        raise UndecodableRecord("unknown_schema", f"its schema {header!r} is unknown")
    return _named(header) + value


def record_of(stored: bytes) -> EventRecord:
    """The record.

    Raises:
        UndecodableRecord: it cannot be read.
    """
    end = 1 + stored[0]
    return EVENTS.decode(stored[end:], stored[1:end])


def bytes_of(stored: bytes) -> bytes:
    """The record as the topic has it."""
    return stored[1 + stored[0] :]


def of_state(state: WorkflowState) -> bytes:
    """Of a batch."""
    return b"m" + encode_state(state)


def of_run(run_id: str) -> bytes:
    """A state that is folded on demand."""
    return b"r" + run_id.encode()


def state_of(stored: bytes) -> WorkflowState | str:
    """The state, or the id of the run to fold."""
    return stored[1:].decode() if stored[0] == _RUN else decode_state(stored[1:])


@lru_cache(16)
def _named(header: bytes) -> bytes:
    return bytes((len(header),)) + header


_WRITTEN: Final = _named(EVENTS.schema.header)
