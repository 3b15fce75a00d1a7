"""The values of a partition's RocksDB: a letter for how the rest is written.

Events come as msgpack (`m`) from a batch, and as Avro with the name of their schema (`a`) from the topic: decoding Avro costs more
than all the rest of a restore, and most records are of runs that have ended, whom nobody asks for. For the same reason a restored
state is only the name of its run (`r`), whose history is folded when somebody asks; one from a batch is msgpack (`m`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from perdure.codec.avro import EVENTS
from perdure.codec.records import decode_event_record, decode_state, encode_event_record, encode_state
from perdure.model.events import EventRecord
from perdure.model.states import WorkflowState

FORMAT: Final = 1
"""Of keys and values; a directory with another one is rebuilt."""

_MSGPACK, _AVRO, _RUN = b"mar"


class Checkpoint(msgspec.Struct, array_like=True, frozen=True):
    """How far a partition's store is, written with every change of it, and whose it is.

    Attributes:
        format: see there.
        identity: of the events topic.
        partition: its partition.
        offset: of the next record that is not in the store.
        input_offset: the highest one that any record names; -1 when none does.
        latest_at: of the last record or batch, microseconds.
        written_at: by the clock of the machine, microseconds.
        timers_from: no timer has a key before it, so that a scan need not walk over those that were deleted.
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


def of_record(record: EventRecord) -> bytes:
    """Of a batch."""
    return b"m" + encode_event_record(record)


def of_topic(value: bytes, header: bytes | None) -> bytes:
    """Of the events topic; not decoded when it is as we write it.

    Raises:
        UndecodableRecord: it is no record of ours.
    """
    if header == EVENTS.schema.header:
        return _avro(header) + value
    return of_record(EVENTS.decode(value, header))


def record_of(stored: bytes) -> EventRecord:
    """The record.

    Raises:
        InfrastructureError: it cannot be read.
    """
    if stored[0] == _MSGPACK:
        return decode_event_record(stored[1:])
    end = 2 + stored[1]
    return EVENTS.decode(stored[end:], stored[2:end])


def of_state(state: WorkflowState) -> bytes:
    """Of a batch."""
    return b"m" + encode_state(state)


def of_run(run_id: str) -> bytes:
    """A state that is folded when somebody asks."""
    return b"r" + run_id.encode()


def state_of(stored: bytes) -> WorkflowState | str:
    """The state, or the id of the run to fold."""
    return stored[1:].decode() if stored[0] == _RUN else decode_state(stored[1:])


@lru_cache(16)
def _avro(header: bytes) -> bytes:
    return bytes((_AVRO, len(header))) + header
