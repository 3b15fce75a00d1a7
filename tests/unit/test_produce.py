"""Records that workflow code sends: what is refused on the author's line, and what they look
like."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import fastavro as _fastavro
import pytest
from msgspec.structs import replace

from perdure import workflow
from perdure.codec.payloads import JsonPayloads
from perdure.errors import PayloadError, UsageError
from perdure.model.actions import ProduceRecord
from perdure.model.dead_letters import RecordHeader
from perdure.replay.calls import evaluate
from perdure.replay.loop import RunLoop
from perdure.replay.runtime import RunRuntime

fastavro: Any = _fastavro
SCHEMA = (
    '{"type": "record", "name": "Shipped", "fields": [{"name": "order", "type": "string"}, {"name": '
    '"boxes", "type": "int"}]}'
)
INFO = workflow.Info("order-1", "run-1", "Order", datetime(2030, 1, 1, tzinfo=UTC), 1)


@dataclass
class Shipped:
    order: str
    boxes: int = 1


@pytest.fixture
def loop() -> RunLoop:
    loop = RunLoop("run-1")
    RunRuntime(loop, 7, JsonPayloads(), lambda: INFO)
    loop.now = 1_893_456_000_000_001
    return loop


def produced(loop: RunLoop, topic: Any = "shop.shipped", value: Any = None, **options: Any) -> ProduceRecord:
    async def code() -> None:
        await workflow.produce(topic, value, **options)

    task = loop.create_task(code())
    loop.run()
    task.result()
    (action,) = loop.actions.take()
    assert isinstance(action, ProduceRecord)
    return action


def test_a_value_is_sent_as_json_under_its_key(loop: RunLoop) -> None:
    action = produced(loop, value=Shipped("order-1"), key="order-1", headers={"tenant": "a", "raw": b"\xff"})
    assert action == ProduceRecord(
        1,
        "shop.shipped",
        b"order-1",
        b'{"order":"order-1","boxes":1}',
        (
            RecordHeader("tenant", b"a"),
            RecordHeader("raw", b"\xff"),
            RecordHeader("content-type", b"application/json"),
        ),
    )
    assert produced(loop, value=b"\x00\x01").value == b"\x00\x01", "bytes are sent as they are"


def test_a_tombstone_has_a_key_and_no_value(loop: RunLoop) -> None:
    assert produced(loop, key=b"k") == ProduceRecord(1, "shop.shipped", b"k", None, ())
    with pytest.raises(UsageError, match="a tombstone needs a key"):
        produced(loop)


@pytest.mark.parametrize("id", [None, 258])
def test_avro_is_read_by_its_schema(loop: RunLoop, id: int | None) -> None:
    action = produced(loop, value=Shipped("order-1", 2), avro=workflow.Avro(SCHEMA, id))
    data = action.value or b""
    if id is not None:
        assert data[:5] == b"\x00\x00\x00\x01\x02", "as Confluent's clients frame it"
        data = data[5:]
    schema: Any = fastavro.parse_schema(json.loads(SCHEMA))
    assert fastavro.schemaless_reader(io.BytesIO(data), schema, None) == {"order": "order-1", "boxes": 2}
    assert action.headers == (RecordHeader("content-type", b"application/avro"),)


def test_a_cloudevent_says_what_happened_and_has_an_id_of_its_own(loop: RunLoop) -> None:
    first, second = (produced(loop, value=Shipped("o"), cloudevent="com.shop.shipped") for _ in range(2))
    headers = {header.name: header.value for header in first.headers}
    assert headers == {
        "ce_specversion": b"1.0",
        "ce_type": b"com.shop.shipped",
        "ce_source": b"/perdure/Order",
        "ce_id": b"run-1/1",
        "ce_subject": b"order-1",
        "ce_time": b"2030-01-01T00:00:00.000001Z",
        "content-type": b"application/json",
    }
    assert RecordHeader("ce_id", b"run-1/2") in second.headers


def test_the_source_of_a_cloudevent_is_a_path_whatever_the_workflow_is_called() -> None:
    loop = RunLoop("run-1")
    RunRuntime(loop, 7, JsonPayloads(), lambda: replace(INFO, type="Shop/Order é"))
    assert (
        RecordHeader("ce_source", b"/perdure/Shop%2FOrder%20%C3%A9")
        in produced(loop, value=1, cloudevent="t").headers
    )


@pytest.mark.parametrize(
    ("topic", "options", "fault"),
    [
        ("", {}, "cannot be a topic"),
        ("a b", {}, "cannot be a topic"),
        ("..", {}, "cannot be a topic"),
        ("x" * 250, {}, "cannot be a topic"),
        (7, {}, "cannot be a topic"),
        ("t", {"key": 7}, "the key must be text or bytes"),
        ("t", {"key": "\ud800"}, "not valid Unicode"),
        ("t", {"key": "k" * 70_000}, "70000 bytes long, the limit is 65536"),
        ("t", {"headers": {"h": 7}}, "the header 'h' must be text"),
        ("t", {"headers": {"h": "\ud800"}}, "the header 'h' must be text"),
        ("t", {"key": "é" * 32_768 + "k"}, "65537 bytes long, the limit is 65536"),
        ("t", {"headers": {"h": "v" * 20_000}}, "the headers are 20001 bytes long"),
        ("t", {"headers": {"é" * 8_192: b"v"}}, "the headers are 16385 bytes long, the limit is 16384"),
        ("t", {"cloudevent": ""}, "the type of a CloudEvent is text"),
    ],
)
def test_an_invalid_record_is_refused_on_the_users_line(
    loop: RunLoop, topic: Any, options: dict[str, Any], fault: str
) -> None:
    with pytest.raises(UsageError, match=rf"test_produce\.py:\d+: workflow\.produce: .*{fault}"):
        produced(loop, topic, 1, **options)


@pytest.mark.parametrize(
    ("value", "avro", "fault"),
    [
        (object(), None, "the record for topic 'shop.shipped' cannot be encoded"),
        ("x" * (1 << 20), None, "is 1048578 bytes long, the limit is 1048576"),
        (Shipped("o"), workflow.Avro("{"), "its Avro schema is invalid"),
        ({"order": 7}, workflow.Avro(SCHEMA), "does not match its Avro schema"),
        ({"order": "o", "boxes": 1, "more": 2}, workflow.Avro(SCHEMA), "does not match its Avro schema"),
    ],
)
def test_a_value_that_cannot_be_sent_is_reported(loop: RunLoop, value: Any, avro: Any, fault: str) -> None:
    with pytest.raises(PayloadError, match=fault):
        produced(loop, value=value, avro=avro)
    runtime: Any = loop.runtime
    assert runtime.records == 0


def test_a_key_and_headers_may_be_as_long_as_their_limits(loop: RunLoop) -> None:
    key, half = "é" * 32_768, "é" * 4_096
    action = produced(loop, value=1, key=key, headers={half: half})
    assert action.key == key.encode()
    assert action.headers[0] == RecordHeader(half, half.encode())


def test_it_is_for_workflow_code_that_may_change_something(loop: RunLoop) -> None:
    with pytest.raises(UsageError, match="for workflow code"):
        asyncio.run(workflow.produce("t", 1))
    wanted = workflow.produce("t", 1)
    with pytest.raises(UsageError, match="may only read"):
        evaluate(loop, wanted.send, None)
