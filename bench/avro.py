"""What a record costs to encode and decode: msgpack, our Avro, and fastavro through dicts.
Microseconds, best of several.

usage: python -m bench.avro
"""

from __future__ import annotations

import importlib
import io
import json
import timeit
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from perdure.codec.avro import COMMANDS, EVENTS, REPLIES, STATE, TASKS, Wire
from perdure.codec.records import (
    decode_command,
    decode_event_record,
    decode_reply,
    decode_state,
    decode_task,
    encode_command,
    encode_event_record,
    encode_reply,
    encode_state,
    encode_task,
)
from perdure.model.commands import CompleteActivity
from perdure.model.events import ActivityCompleted, ActivityScheduled, EventRecord
from perdure.model.options import ActivityOptions
from perdure.model.replies import Closed
from perdure.model.states import Status, WorkflowState
from perdure.model.tasks import Task

AT = 1_763_724_000_123_456
RUN = "0190a1b2c3d4e5f6a7b8"
TOKEN = "tok-0123456789abcdef"
SCHEDULED = ActivityScheduled(2, "shop.charge", b'["order-12345",1200]', ActivityOptions(), TOKEN)
EVENT = EventRecord(
    "order-12345", RUN, 4, AT, 3, 123_456, b"x" * 16, [ActivityCompleted(1, b'{"ok":true}'), SCHEDULED]
)
COMMAND = CompleteActivity("order-12345", RUN, number=1, token=TOKEN, result=b'{"ok":true}')
TASK = Task(
    "order-12345",
    RUN,
    2,
    1,
    TOKEN,
    "shop.charge",
    "default",
    b'["order-12345",1200]',
    60_000_000,
    "r/2",
    AT,
    b"",
    "Order",
)
CLOSED = Closed("0123456789abcdef", RUN, Status.COMPLETED, b'"delivered"')
VIEW = WorkflowState("order-12345", RUN, "Order", Status.RUNNING, AT, AT, 0, 7, b'{"state":"paid"}')

CASES: list[tuple[str, Wire[Any], Any, Callable[[Any], bytes], Callable[[bytes], Any]]] = [
    ("event record, 2 events", EVENTS, EVENT, encode_event_record, decode_event_record),
    ("command", COMMANDS, COMMAND, encode_command, decode_command),
    ("task", TASKS, TASK, encode_task, decode_task),
    ("reply", REPLIES, CLOSED, encode_reply, decode_reply),
    ("state", STATE, VIEW, encode_state, decode_state),
]


def cost_us(work: Callable[[], object]) -> float:
    count = 2_000
    return min(timeit.repeat(work, number=count, repeat=25)) / count * 1e6


def through_dicts(function: Any, data: bytes, *arguments: Any) -> object:
    return function(io.BytesIO(data), *arguments)


def main() -> None:
    fastavro: Any = importlib.import_module("fastavro")
    print(f"{'':24}{'bytes':>12}{'msgpack':>14}{'avro':>14}{'fastavro':>16}   (us: encode / decode)")
    for name, wire, value, encode, decode in CASES:
        packed, data, header = encode(value), wire.encode(value), wire.header[1]
        schema = fastavro.parse_schema(
            json.loads(wire.schema.text.replace('"logicalType": "timestamp-micros"', '"scale": 0'))
        )
        plain = fastavro.schemaless_reader(io.BytesIO(data), schema, None, return_record_name=True)
        pairs: list[tuple[Callable[[], object], Callable[[], object]]] = [
            (partial(encode, value), partial(decode, packed)),
            (partial(wire.encode, value), partial(wire.decode, data, header)),
            (
                partial(through_dicts, fastavro.schemaless_writer, b"", schema, plain),
                partial(through_dicts, fastavro.schemaless_reader, data, schema, None),
            ),
        ]
        assert msgspec.msgpack.encode(wire.decode(data, header)) == packed
        figures = [f"{cost_us(there):6.2f} /{cost_us(back):6.2f}" for there, back in pairs]
        print(f"{name:24}{len(packed):>6}/{len(data):<5}{figures[0]:>14}{figures[1]:>14}{figures[2]:>16}")


if __name__ == "__main__":
    main()
