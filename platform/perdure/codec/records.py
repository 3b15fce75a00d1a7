"""The platform's own records as msgpack.

Every struct of the model that is stored or sent has a pair of functions here; encoders and decoders
are made once.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Final, TypeVar

import msgspec

from perdure.errors import UndecodableRecord
from perdure.model.commands import AnyCommand
from perdure.model.dead_letters import RecordHeader
from perdure.model.events import EventRecord
from perdure.model.replies import AnyReply
from perdure.model.states import Status, WorkflowState, read, stored
from perdure.model.tasks import Task

T = TypeVar("T")

HASH_BYTES: Final = 16

_encoder: Final = msgspec.msgpack.Encoder()
_event_record: Final = msgspec.msgpack.Decoder(EventRecord)
_command: Final[msgspec.msgpack.Decoder[AnyCommand]] = msgspec.msgpack.Decoder(AnyCommand)
_reply: Final[msgspec.msgpack.Decoder[AnyReply]] = msgspec.msgpack.Decoder(AnyReply)
_task: Final = msgspec.msgpack.Decoder(Task)
_headers: Final[msgspec.msgpack.Decoder[tuple[RecordHeader, ...]]] = msgspec.msgpack.Decoder(
    tuple[RecordHeader, ...]
)
_state: Final = msgspec.msgpack.Decoder(WorkflowState)

encode_event_record: Final[Callable[[EventRecord], bytes]] = _encoder.encode
encode_command: Final[Callable[[AnyCommand], bytes]] = _encoder.encode
encode_reply: Final[Callable[[AnyReply], bytes]] = _encoder.encode
encode_task: Final[Callable[[Task], bytes]] = _encoder.encode
encode_headers: Final[Callable[[tuple[RecordHeader, ...]], bytes]] = _encoder.encode


def encode_state(state: WorkflowState) -> bytes:
    """A state, as older versions read it, too."""
    return _encoder.encode(state if state.status is not Status.PAUSED else stored(state))


def decode_event_record(data: bytes) -> EventRecord:
    """Raises UndecodableRecord when it is not one."""
    return _decoded(_event_record, data, "event record")


def decode_command(data: bytes) -> AnyCommand:
    """Raises UndecodableRecord when it is not one."""
    return _decoded(_command, data, "command")


def decode_reply(data: bytes) -> AnyReply:
    """Raises UndecodableRecord when it is not one."""
    return _decoded(_reply, data, "reply")


def decode_task(data: bytes) -> Task:
    """Raises UndecodableRecord when it is not one."""
    return _decoded(_task, data, "task")


def decode_headers(data: bytes) -> tuple[RecordHeader, ...]:
    """Raises UndecodableRecord when it is none."""
    return _decoded(_headers, data, "record's headers")


def decode_state(data: bytes) -> WorkflowState:
    """Raises UndecodableRecord when it is not one."""
    return read(_decoded(_state, data, "state"))


def hash_of(record: bytes) -> bytes:
    """The hash by which the next record of the run names this one, 16 bytes of BLAKE2b.

    Args:
        record: as encoded.
    """
    return blake2b(record, digest_size=HASH_BYTES).digest()


def hash_of_record(record: EventRecord) -> bytes:
    """`hash_of` of a record that was read: encoding is canonical, so that it is encoded again."""
    return hash_of(_encoder.encode(record))


def _decoded(decoder: msgspec.msgpack.Decoder[T], data: bytes, what: str) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        found: object = data  # a row of SQLite may hold anything
        size = f"{len(found)} bytes" if isinstance(found, bytes) else f"type {type(found).__name__}"
        raise UndecodableRecord(
            "undecodable",
            f"a stored {what} of {size} cannot be read: {error}. It is damaged, or was written by a newer "
            "version; "
            "restore the database from a backup, or upgrade.",
        ) from None
