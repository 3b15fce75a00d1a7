"""The platform's own records as Avro, for Kafka.

There is one `Wire` per topic. It writes the current version of its schema, which the record's
header `perdure-schema` names as `name/version/fingerprint`. It reads any version that it knows,
those of `perdure.schemas` and learned ones (`Wire.learn`), by Avro's rules of resolution.

A record may be framed as Confluent's clients do it: a NUL and the id that a schema registry gave to
the schema, four bytes, before the Avro. Its header then ends with `/confluent`. Every reader
accepts both.
"""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar, cast, get_args

from msgspec import Struct

from perdure import schemas
from perdure.codec.avro_compiler import DAMAGE, Compiler
from perdure.codec.frames import FRAMED, unframed
from perdure.errors import UndecodableRecord
from perdure.model.commands import AnyCommand, StartWorkflow
from perdure.model.dead_letters import DeadLetter, RecordHeader
from perdure.model.events import (
    AnyEvent,
    CarriedRequest,
    CarriedToken,
    ChildRequested,
    EventRecord,
    TimerStarted,
    WorkflowStarted,
)
from perdure.model.failure import FailureInfo
from perdure.model.options import ActivityOptions, RetryPolicy
from perdure.model.replies import AnyReply
from perdure.model.states import Status, Wait, WorkflowState, read, stored
from perdure.model.streams import StreamRecord
from perdure.model.tasks import Cancellation, Task

T = TypeVar("T")

HEADER: Final = "perdure-schema"
"""The name of the header; its value is `name/version/fingerprint`, and `/confluent` when the record
is framed."""


class Wire(Generic[T]):
    """Writes and reads the records of one topic.

    Args:
        name: of the schema.
        structs: of the schema's own namespace; those that schemas share are known.

    Attributes:
        schema: the version that is written.
        header: of every record that is written: name and value.
        encode: the bytes of a value. Raises OverflowError for an integer of more than 64 bits.
    """

    def __init__(self, name: str, *structs: type[Struct]) -> None:
        self.schema = schemas.current(name)
        self.header = (HEADER, self.schema.header)
        namespace = f"perdure.{name.replace('-', '_')}"
        own = {f"{namespace}.{struct.__name__}": struct for struct in structs}
        compiled = Compiler(self.schema.parsed(), _SHARED | own, _RARE)
        self.encode: Callable[[T], bytes] = compiled.write
        self._read = compiled.read
        self._current = self.schema.header
        self._older = {schema.header: schema.text for schema in schemas.released(name)[:-1]}

    def decode(self, data: bytes, header: bytes | None) -> T:
        """The value.

        Args:
            data: of the record.
            header: the value of its header `perdure-schema`; None when it has none.

        Raises:
            UndecodableRecord: there is no header, it names a schema that is not known here, or the
                bytes do not fit.
        """
        try:
            if header != self._current:
                if header is not None:
                    data, header = unframed(data, header)
                if header != self._current:
                    data = self._resolved(data, header)
            value, end = self._read(data, 0)
        except DAMAGE as error:
            raise self._undecodable(data, f"cut short or damaged ({type(error).__name__}: {error})") from None
        if end != len(data):
            raise self._undecodable(data, f"its schema takes {end} bytes")
        return cast("T", value)

    def knows(self, header: bytes) -> bool:
        """Whether records with this header can be read."""
        header = header.removesuffix(FRAMED)
        return header == self._current or header in self._older

    def learn(self, header: bytes, schema: str) -> None:
        """Learn to read records of a foreign version, such as a newer one during a deployment.

        Args:
            header: of its records.
            schema: the .avsc it was written with.
        """
        self._older[header] = schema

    def _resolved(self, data: bytes, header: bytes | None) -> bytes:
        """The record's bytes, converted to the current version."""
        fastavro: Any = importlib.import_module("fastavro")
        writer = _without_logical_types(json.loads(self._text_of(header)))
        reader = fastavro.parse_schema(_without_logical_types(self.schema.parsed()))
        _set_defaults_of_bytes(reader)
        source, target = io.BytesIO(data), io.BytesIO()
        try:
            value: Any = fastavro.schemaless_reader(source, writer, reader, return_record_name=True)
            fastavro.schemaless_writer(target, reader, value)
        except Exception as error:  # noqa: BLE001  fastavro promises nothing about what it raises
            raise self._undecodable(
                data, f"it does not match its schema, or this version's ({type(error).__name__}: {error})"
            ) from None
        if source.read(1):
            raise self._undecodable(data, f"its schema takes {source.tell() - 1} bytes")
        return target.getvalue()

    def _text_of(self, header: bytes | None) -> str:
        if header is None:
            raise UndecodableRecord("undecodable", f"it has no header {HEADER}")
        text = self._older.get(header)
        if text is None:
            theirs, ours = header.decode(errors="replace"), self._current.decode()
            raise UndecodableRecord(
                "unknown_schema", f"its schema {theirs!r} is unknown; this version's is {ours!r}"
            )
        return text

    def _undecodable(self, data: bytes, fault: str) -> UndecodableRecord:
        return UndecodableRecord(
            "undecodable", f"{len(data)} bytes are not a {self.schema.name} record: {fault}"
        )


class _StateWire(Wire[WorkflowState]):
    """The states, as older versions read them, too: `model.states.stored`."""

    def __init__(self, name: str, *structs: type[Struct]) -> None:
        super().__init__(name, *structs)
        write = self.encode
        self.encode = lambda state: write(state if state.status is not Status.PAUSED else stored(state))

    def decode(self, data: bytes, header: bytes | None) -> WorkflowState:
        return read(super().decode(data, header))


def _without_logical_types(schema: Any) -> Any:
    """Times stay integers, exact and of any size."""
    match schema:
        case {"logicalType": _, "type": plain}:
            return plain
        case {**entries}:
            return {key: _without_logical_types(value) for key, value in entries.items()}
        case [*items]:
            return [_without_logical_types(item) for item in items]
        case _:
            return schema


def _set_defaults_of_bytes(schema: Any) -> None:
    """Make the defaults of bytes bytes: a schema writes them as text (Avro 1.12, "Complex Types"),
    and fastavro's reader gives them as it finds them.
    """
    match schema:
        case [*items]:
            for item in items:
                _set_defaults_of_bytes(item)
        case {**entries}:
            default = entries.get("default")
            if entries.get("type") == "bytes" and isinstance(default, str):
                schema["default"] = default.encode("latin-1")
            for value in entries.values():
                _set_defaults_of_bytes(value)
        case _:
            pass


_SHARED: Final[dict[str, type[Struct]]] = {
    f"perdure.{each.__name__}": each for each in (FailureInfo, ActivityOptions, RetryPolicy)
}

# In ordinary orders, these fields have their defaults. Fields that later versions
# add to the end of a record belong here, so that they cost nothing where they are not used.
_RARE: Final[dict[type[Struct], tuple[tuple[str, str], ...]]] = {
    StartWorkflow: (("if_running", ""),),
    WorkflowStarted: (("timeout_us", "trace"), ("parent", "")),
    ActivityOptions: (("idempotency_key", ""),),
    TimerStarted: (("summary", ""),),
    ChildRequested: (("summary", ""),),
    Wait: (("summary", ""),),
    WorkflowState: (("attributes", "reason"), ("parent", "")),
    Task: (("details", "details"), ("trace", "")),
}

COMMANDS: Final[Wire[AnyCommand]] = Wire("commands", *get_args(AnyCommand))
EVENTS: Final[Wire[EventRecord]] = Wire(
    "events", EventRecord, RecordHeader, CarriedToken, CarriedRequest, *get_args(AnyEvent)
)
TASKS: Final[Wire[Task]] = Wire("tasks", Task)
REPLIES: Final[Wire[AnyReply]] = Wire("replies", *get_args(AnyReply))
STATE: Final[Wire[WorkflowState]] = _StateWire("state", WorkflowState, Wait)
DEAD_LETTERS: Final[Wire[DeadLetter]] = Wire("dead-letters", DeadLetter, RecordHeader)
CANCELLATIONS: Final[Wire[Cancellation]] = Wire("cancellations", Cancellation)
STREAMS: Final[Wire[StreamRecord]] = Wire("streams", StreamRecord)
_ALL: Final[list[Wire[Any]]] = [
    COMMANDS,
    EVENTS,
    TASKS,
    REPLIES,
    STATE,
    DEAD_LETTERS,
    CANCELLATIONS,
    STREAMS,
]
WIRES: Final = {wire.schema.name: wire for wire in _ALL}
