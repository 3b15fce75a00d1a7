from __future__ import annotations

import contextlib
import enum
import io
import json
import typing
from functools import cache
from typing import Any, cast

import fastavro
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure import schemas
from perdure.adapters.rocksdb.values import of_topic
from perdure.codec.avro import (
    CANCELLATIONS,
    COMMANDS,
    DEAD_LETTERS,
    EVENTS,
    REPLIES,
    STATE,
    STREAMS,
    TASKS,
    WIRES,
    Wire,
)
from perdure.codec.avro_compiler import Compiler
from perdure.codec.frames import FRAMED, frame
from perdure.errors import UndecodableRecord
from perdure.model.commands import AnyCommand, FireTimer, SignalWorkflow, StartWorkflow
from perdure.model.dead_letters import DeadLetter
from perdure.model.events import AnyEvent, EventRecord, TimerFired, WorkflowBegun
from perdure.model.replies import AnyReply
from perdure.model.states import WorkflowState
from perdure.model.streams import StreamRecord
from perdure.model.tasks import Cancellation, Task

VALUES: dict[str, Any] = {
    "commands": AnyCommand,
    "events": EventRecord,
    "tasks": Task,
    "replies": AnyReply,
    "state": WorkflowState,
    "dead-letters": DeadLetter,
    "cancellations": Cancellation,
    "streams": StreamRecord,
}
FASTAVRO: Any = fastavro
INT64 = st.integers(-(2**63), 2**63 - 1)


@cache
def values_of(annotation: Any, depth: int = 2) -> st.SearchStrategy[Any]:
    """Any value of a type of the model."""
    arguments = typing.get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        # a paused run is written as a suspended one: `model.states.stored`
        return st.sampled_from([each for each in annotation if each.value != "paused"])
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        hints = typing.get_type_hints(annotation)
        return st.builds(
            annotation, **{field: values_of(hints[field], depth) for field in annotation.__struct_fields__}
        )
    if typing.get_origin(annotation) is typing.Literal:
        return st.sampled_from(arguments)
    if typing.get_origin(annotation) in (list, tuple):
        items = st.lists(values_of(arguments[0], depth), max_size=2)
        return items.map(tuple) if typing.get_origin(annotation) is tuple else items
    if type(None) in arguments:
        return st.none() | values_of(arguments[0], depth - 1) if depth else st.none()
    if arguments:
        return st.one_of([values_of(each, depth) for each in arguments])
    plain: dict[Any, st.SearchStrategy[Any]] = {
        str: st.text(max_size=9) | st.just("é" * 70),
        bytes: st.binary(max_size=9) | st.just(bytes(70)),
        bool: st.booleans(),
        int: st.integers(0, 5000) | INT64,
        float: st.floats(allow_nan=False),
    }
    return plain[annotation]


RECORDS = st.one_of([st.tuples(st.just(wire), values_of(VALUES[name])) for name, wire in WIRES.items()])


@given(RECORDS)
@settings(max_examples=150, deadline=None)
def test_every_record_comes_back_as_it_was(record: tuple[Wire[Any], Any]) -> None:
    wire, value = record
    back = wire.decode(wire.encode(value), wire.header[1])
    assert back == value
    assert type(back) is type(value)
    assert msgspec.msgpack.encode(back) == msgspec.msgpack.encode(value)  # types within, too


@given(RECORDS)
@settings(max_examples=150, deadline=None)
def test_every_byte_is_what_fastavro_would_write(record: tuple[Wire[Any], Any]) -> None:
    wire, value = record
    schema = without_logical_types(wire.schema.parsed())
    judge = io.BytesIO()
    FASTAVRO.schemaless_writer(judge, schema, as_fastavro(wire, value))
    assert wire.encode(value) == judge.getvalue()


@given(RECORDS, st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_bytes_either_decode_to_another_record_or_are_undecodable(
    record: tuple[Wire[Any], Any], data: st.DataObject
) -> None:
    wire, value = record
    good = wire.encode(value)
    at = data.draw(st.integers(0, len(good)))
    bad = data.draw(
        st.sampled_from(
            [
                good[:at],
                good + b"\0",
                good[:at] + b"\xff" + good[at + 1 :],
                good[:at] + b"\x80" * 12 + good[at:],
            ]
        )
    )
    with contextlib.suppress(UndecodableRecord):
        back = wire.decode(bad, wire.header[1])
        msgspec.msgpack.decode(msgspec.msgpack.encode(back), type=VALUES[wire.schema.name])


@given(st.binary(max_size=200), st.sampled_from(list(WIRES.values())))
@settings(max_examples=150, deadline=None)
def test_garbage_either_decodes_or_is_undecodable(garbage: bytes, wire: Wire[Any]) -> None:
    with contextlib.suppress(UndecodableRecord):
        wire.decode(garbage, wire.header[1])


def test_an_array_in_blocks_with_their_sizes_is_read_as_other_writers_may_write_it() -> None:
    whole = EVENTS.encode(record_of(TimerFired(1), WorkflowBegun()))
    assert whole.endswith(b"\x04\x28\x02\x02\x00")  # two events, the first of two bytes
    blocks = whole[:-5] + b"\x01\x04\x28\x02" + b"\x02\x02" + b"\x00"
    assert EVENTS.decode(blocks, EVENTS.header[1]) == record_of(TimerFired(1), WorkflowBegun())


def test_a_failure_nested_deeper_than_python_goes_is_undecodable() -> None:
    cut = REPLIES.encode(msgspec.convert(["QueryRaised", "r", ["t"]], AnyReply))
    inner = cut[cut.index(b"\x02t") :]
    deep = cut[: cut.index(b"\x02t")] + (inner[:-6] + b"\x02") * 100_000 + inner
    with pytest.raises(UndecodableRecord, match="RecursionError"):
        REPLIES.decode(deep, REPLIES.header[1])


def test_a_record_without_header_is_undecodable() -> None:
    with pytest.raises(UndecodableRecord, match="no header perdure-schema") as caught:
        COMMANDS.decode(COMMANDS.encode(FireTimer("w", number=1)), None)
    assert caught.value.reason == "undecodable"


def test_a_record_of_an_unknown_schema_names_theirs_and_ours() -> None:
    ours = schemas.current("commands").header.decode()
    with pytest.raises(
        UndecodableRecord,
        match=f"'commands/99/0123456789abcdef' is unknown; this version's is '{ours}'",
    ) as caught:
        COMMANDS.decode(COMMANDS.encode(FireTimer("w", number=1)), b"commands/99/0123456789abcdef")
    assert caught.value.reason == "unknown_schema"


def test_a_number_of_more_than_64_bits_is_refused() -> None:
    with pytest.raises(OverflowError):
        COMMANDS.encode(FireTimer("w", number=2**63))


def test_a_struct_that_its_schema_does_not_describe_is_refused_immediately() -> None:
    schema: dict[str, Any] = {"type": "record", "name": "n.T", "fields": [{"name": "number", "type": "long"}]}
    Compiler({**schema, "name": "T", "namespace": "n"}, {"n.T": TimerFired})
    schema["fields"].append({"name": "more", "type": "long"})
    with pytest.raises(TypeError, match=r"has the fields \('number', 'more'\), its struct \('number',\)"):
        Compiler({**schema, "name": "T", "namespace": "n"}, {"n.T": TimerFired})


# ---- versions


@given(RECORDS)
@settings(max_examples=75, deadline=None)
def test_old_bytes_are_read_with_a_new_schema(record: tuple[Wire[Any], Any]) -> None:
    wire, value = record
    newer = without_logical_types(evolved(wire.schema.parsed()))
    read = FASTAVRO.schemaless_reader(
        io.BytesIO(wire.encode(value)), without_logical_types(wire.schema.parsed()), newer
    )
    assert "added in 2" in json.dumps(read, default=repr)


@given(RECORDS)
@settings(max_examples=75, deadline=None)
def test_new_bytes_are_read_with_the_old_schema_once_the_new_one_is_learned(
    record: tuple[Wire[Any], Any],
) -> None:
    wire, value = record
    newer = evolved(wire.schema.parsed())
    new_bytes = io.BytesIO()
    FASTAVRO.schemaless_writer(new_bytes, without_logical_types(newer), as_fastavro(wire, value))
    header = f"{wire.schema.name}/2/of a test".encode()
    wire.learn(header, json.dumps(newer))
    assert wire.knows(header)
    assert wire.decode(new_bytes.getvalue(), header) == value


def test_a_kind_that_only_the_newer_schema_has_is_undecodable() -> None:
    newer = evolved(COMMANDS.schema.parsed())
    new_bytes = io.BytesIO()
    value = {"command": ("perdure.commands.OfTheFuture", {"depth": 3})}
    FASTAVRO.schemaless_writer(new_bytes, without_logical_types(newer), value)
    COMMANDS.learn(b"commands/2/of a test", json.dumps(newer))
    with pytest.raises(UndecodableRecord, match="does not match its schema, or this version's"):
        COMMANDS.decode(new_bytes.getvalue(), b"commands/2/of a test")


def evolved(schema: Any) -> Any:
    """What the next version may look like: a field more in every record, a kind more in every union
    of kinds."""
    match schema:
        case [*branches] if "null" not in branches:
            future = {"type": "record", "name": "OfTheFuture", "fields": [{"name": "depth", "type": "long"}]}
            return [*(evolved(branch) for branch in branches), future]
        case {"type": "record", "fields": fields}:
            more = {"name": "of_version_2", "type": "string", "default": "added in 2"}
            return {
                **schema,
                "fields": [*({**field, "type": evolved(field["type"])} for field in fields), more],
            }
        case {"items": items}:
            return {**schema, "items": evolved(items)}
        case [*branches]:
            return [evolved(branch) for branch in branches]
        case _:
            return schema


# ---- what fastavro takes


def record_of(*events: AnyEvent) -> EventRecord:
    return EventRecord("w", "r", 1, 1_763_724_000_123_456, 3, 70, b"h" * 16, list(events))


def as_fastavro(wire: Wire[Any], value: Any) -> Any:
    plain = named(wire, value)
    return {wire.schema.parsed()["fields"][0]["name"]: plain} if wire in (COMMANDS, REPLIES) else plain


def named(wire: Wire[Any], value: Any) -> Any:
    """Records as dicts that say which they are."""
    if isinstance(value, msgspec.Struct):
        kind = type(value).__name__
        is_shared = kind in {"FailureInfo", "ActivityOptions", "RetryPolicy"}
        namespace = "perdure" if is_shared else f"perdure.{wire.schema.name.replace('-', '_')}"
        return {
            "-type": f"{namespace}.{kind}",
            **{name: named(wire, getattr(value, name)) for name in value.__struct_fields__},
        }
    if isinstance(value, (list, tuple)):
        return [named(wire, each) for each in cast("list[Any]", value)]
    return value


def without_logical_types(schema: Any) -> Any:
    return json.loads(
        json.dumps(schema).replace('{"type": "long", "logicalType": "timestamp-micros"}', '"long"')
    )


def test_the_wires_are_those_of_the_topics() -> None:
    every = [COMMANDS, EVENTS, TASKS, REPLIES, STATE, DEAD_LETTERS, CANCELLATIONS, STREAMS]
    assert list(WIRES.values()) == every
    start = StartWorkflow("order-1", type="Order", input=b'["burrata"]')
    assert COMMANDS.decode(COMMANDS.encode(start), COMMANDS.header[1]) == start
    assert COMMANDS.encode(SignalWorkflow("w", name="s")) == b"\x02\x02w\x00\x00\x00\x02s\x04[]\x00"


# ---- framed as Confluent's clients do it


def test_a_framed_record_reads_as_the_same_value_whatever_its_id() -> None:
    value = SignalWorkflow("w", name="paid", request_id="r")
    for schema_id in (1, 70_000, 2**31 - 1):
        assert (
            COMMANDS.decode(frame(schema_id) + COMMANDS.encode(value), COMMANDS.schema.header + FRAMED)
            == value
        )
    assert frame(258) == b"\0\0\0\1\2"
    assert COMMANDS.knows(COMMANDS.schema.header + FRAMED)


def test_a_framed_record_of_another_version_is_resolved_as_without_a_frame() -> None:
    wire: Wire[AnyCommand] = Wire("commands", *typing.get_args(AnyCommand))
    wire.learn(b"commands/2/feed", wire.schema.text)
    assert wire.decode(
        frame(9) + wire.encode(FireTimer("w", number=1)), b"commands/2/feed/confluent"
    ) == FireTimer("w", number=1)


@pytest.mark.parametrize("data", [b"", b"\0\0\0\1", b"\1\0\0\0\1", frame(1)])
def test_a_header_that_promises_a_frame_and_a_record_without_one_are_undecodable(data: bytes) -> None:
    with pytest.raises(UndecodableRecord):
        COMMANDS.decode(data, COMMANDS.schema.header + FRAMED)


def test_a_framed_event_is_stored_as_one_without_a_frame() -> None:
    assert of_topic(frame(7) + b"avro", EVENTS.schema.header + FRAMED) == of_topic(
        b"avro", EVENTS.schema.header
    )


def test_events_that_the_first_version_wrote_are_read() -> None:
    failure = ["app:Broken", "no", b"[1]", True, "", None, -1, 0, ["builtins:OSError"]]
    event = msgspec.convert(["ActivityAttemptFailed", 1, 2, failure, 7, "t"], AnyEvent)
    record = EventRecord("w", "r", 1, 7, 0, 0, b"", [event])
    first = schemas.released("events")[0]
    written = io.BytesIO()
    value = as_fastavro(EVENTS, record)
    FASTAVRO.schemaless_writer(written, without_logical_types(first.parsed()), value)
    assert EVENTS.decode(written.getvalue(), first.header) == record
