"""Triggers: bindings, decoding of records, and refusals with their lines."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import fastavro as _fastavro
import pytest

from perdure import workflow
from perdure.codec.payloads import JsonPayloads
from perdure.errors import UsageError
from perdure.model.commands import SignalWorkflow, StartWorkflow
from perdure.registry import Registry
from perdure.triggers import CloudEvent
from perdure.triggers.binding import Bindings, Source
from perdure.triggers.decoding import BadRecord

SCHEMA = (
    '{"type": "record", "name": "Order", "fields": [{"name": "id", "type": "string"}, {"name": "cents", '
    '"type": "long"}]}'
)
CONTEXT = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"e-1"),
    ("ce_source", b"/shop"),
    ("ce_type", b"placed"),
    ("ce_time", b"2030-01-01T00:00:00Z"),
]


@dataclass
class Order:
    id: str
    cents: int


fastavro: Any = _fastavro


def id_of(order: Any) -> str:
    return str(order.id)


def of_nothing(order: Any) -> str:
    return str(order.nothing)


def divides(order: Any) -> bool:
    return bool(1 / 0)


def no_id(order: Any) -> Any:
    return None


def nul(order: Any) -> str:
    return "a\0b"


def order_of(payment: dict[str, Any]) -> str:
    return str(payment["order"])


def record(value: Any, *headers: tuple[str, bytes], topic: str = "shop.orders") -> Source:
    data = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    return Source(topic, 2, 7, b"key", data, headers)


def bindings(*workflows: Any) -> Bindings:
    return Bindings(Registry.of(workflows), JsonPayloads())


def avro(value: Any) -> bytes:
    target = io.BytesIO()
    schema: Any = fastavro.parse_schema(json.loads(SCHEMA))
    fastavro.schemaless_writer(target, schema, value)
    return target.getvalue()


def sale(**options: Any) -> Any:
    @workflow.trigger("shop.orders", options.pop("value", Order), id=options.pop("id", id_of), **options)
    @workflow.defn
    async def sell(order: Any) -> None:
        """Nothing."""

    return sell


def test_a_record_starts_a_workflow_under_a_request_id_of_its_own() -> None:
    (command,) = bindings(sale()).commands_of(record({"id": "o-1", "cents": 5, "more": True}))
    assert isinstance(command, StartWorkflow)
    assert (command.workflow_id, command.type, command.input) == ("o-1", "sell", b'[{"id":"o-1","cents":5}]')
    assert command.request_id == "shop.orders/2/7/sell/"
    assert command.reply_to == "dead-letter:shop.orders/2/7"
    assert command.if_closed == "refuse", "a record that is read again starts nothing"


def test_every_trigger_of_a_topic_is_offered_the_record_and_when_decides() -> None:
    @workflow.defn
    class Sale:
        @workflow.trigger("shop.orders", Order, id=lambda order: order.id, when=lambda order: order.cents > 0)
        @workflow.run
        async def run(self, order: Order) -> None: ...

        @workflow.trigger("shop.payments", dict[str, Any], id=order_of)
        @workflow.signal
        def pay(self, payment: dict[str, Any]) -> None: ...

    @workflow.defn
    class Tally:
        @workflow.run
        async def run(self) -> None: ...

        @workflow.trigger("shop.orders", dict[str, Any], id=lambda _: "tally", start=True)
        @workflow.signal
        def count(self, order: dict[str, Any]) -> None: ...

    bound = bindings(Sale, Tally)
    assert bound.topics == ["shop.orders", "shop.payments"]
    assert bound.in_words() == [
        "shop.orders starts Sale",
        "shop.orders signals Tally.count",
        "shop.payments signals Sale.pay",
    ]
    first, second = bound.commands_of(record({"id": "o-1", "cents": 5}))
    assert isinstance(first, StartWorkflow)
    assert isinstance(second, StartWorkflow)
    assert (second.workflow_id, second.if_running, second.signal_name, second.input) == (
        "tally",
        "attach",
        "count",
        b"[]",
    )
    assert second.signal_input == b'[{"id":"o-1","cents":5}]'
    assert first.request_id != second.request_id
    assert len(bound.commands_of(record({"id": "o-1", "cents": 0}))) == 1
    (paid,) = bound.commands_of(record({"order": "o-1"}, topic="shop.payments"))
    assert isinstance(paid, SignalWorkflow)
    assert (paid.workflow_id, paid.name, paid.input) == ("o-1", "pay", b'[{"order":"o-1"}]')


def test_avro_is_decoded_with_a_schema_or_by_the_registry() -> None:
    value = {"id": "o-1", "cents": 5}
    assert len(bindings(sale(schema=SCHEMA)).commands_of(record(avro(value)))) == 1
    framed = b"\0\0\0\0\7" + avro(value)
    asked: list[int] = []

    def schema_of(schema_id: int) -> str | None:
        asked.append(schema_id)
        return SCHEMA if schema_id == 7 else None

    (command,) = bindings(sale(format="avro")).commands_of(record(framed), schema_of)
    assert (command.workflow_id, asked) == ("o-1", [7])
    assert (
        len(bindings(sale()).commands_of(record(framed, ("Content-Type", b"application/avro")), schema_of))
        == 1
    )


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_a_cloudevent_is_read_in_both_modes(is_wrapped: bool) -> None:
    seen: list[Any] = []

    def id_of(value: Any) -> str:
        seen.append(value)
        return "o-1"

    bound = bindings(sale(value=CloudEvent[Order] if is_wrapped else Order, id=id_of))
    bound.commands_of(record({"id": "o-1", "cents": 5}, *CONTEXT))
    structured = {
        "specversion": "1.0", "id": "e-1", "source": "/shop", "type": "placed",
        "time": "2030-01-01T00:00:00Z", "data": {"id": "o-1", "cents": 5},
    }  # fmt: skip
    bound.commands_of(record(structured, ("content-type", b"application/cloudevents+json; charset=utf-8")))
    order = Order("o-1", 5)
    event = CloudEvent("e-1", "/shop", "placed", order, "", datetime(2030, 1, 1, tzinfo=UTC))
    assert seen == [event if is_wrapped else order] * 2


BAD: list[tuple[dict[str, Any], Source, str, str]] = [
    ({}, record(b"{"), "undecodable", "not match the trigger's type"),
    ({}, record({"id": 7, "cents": 5}), "undecodable", "expected str"),
    ({}, record(b"\xff\xfe"), "undecodable", "not match the trigger's type"),
    ({}, record(None), "tombstone", "no value"),
    ({"id": of_nothing}, record({"id": "o", "cents": 1}), "trigger_failed", "AttributeError"),
    ({"when": divides}, record({"id": "o", "cents": 1}), "trigger_failed", "ZeroDivisionError"),
    ({"id": no_id}, record({"id": "o", "cents": 1}), "bad_id", "must be text"),
    ({"id": nul}, record({"id": "o", "cents": 1}), "bad_id", "U+0000"),
    ({"format": "cloudevents"}, record({"id": "o", "cents": 1}), "undecodable", "not a CloudEvent"),
    ({}, record({}, *CONTEXT[:1]), "undecodable", "without ce_id"),
    (
        {},
        record(b"{", ("content-type", b"application/cloudevents+json")),
        "undecodable",
        "not a structured CloudEvent",
    ),
    ({"format": "avro"}, record(b"x"), "undecodable", "without a frame"),
    ({"format": "avro"}, record(b"\0\0\0\0\7x"), "unknown_schema", "none is configured"),
    ({"schema": SCHEMA}, record(b"\xff"), "undecodable", "does not match its Avro schema"),
    ({"schema": SCHEMA}, record(avro({"id": "o", "cents": 1}) + b"x"), "undecodable", "takes"),
]


@pytest.mark.parametrize(
    ("options", "source", "reason", "said"), BAD, ids=[f"{case[2]}-{case[3]}" for case in BAD]
)
def test_an_undecodable_record_has_a_reason(
    options: dict[str, Any], source: Source, reason: str, said: str
) -> None:
    with pytest.raises(BadRecord) as caught:
        bindings(sale(**dict(options))).commands_of(source)
    assert caught.value.reason == reason
    assert said in str(caught.value)


def test_a_registry_that_is_down_is_not_the_records_fault() -> None:
    def down(schema_id: int) -> str | None:
        raise ConnectionError("no answer")

    with pytest.raises(ConnectionError):
        bindings(sale(format="avro")).commands_of(record(b"\0\0\0\0\7x"), down)


async def takes_two(order: Order, more: str) -> None:
    """Too many."""


def twice() -> Any:
    once: Any = workflow.trigger("t", dict[str, Any], id=str)
    again: Any = workflow.trigger("t", dict[str, Any], id=repr, when=bool)
    return again(once(sale()))


def start_takes_two() -> Any:
    @workflow.defn
    class Wide:
        @workflow.run
        async def run(self, a: str, b: str) -> None: ...

        @workflow.trigger("t", dict[str, Any], id=str, start=True)
        @workflow.signal
        def signal(self, value: dict[str, Any]) -> None: ...

    return Wide


trigger: Any = workflow.trigger
BAD_CODE: list[tuple[Callable[[], Any], str]] = [
    (lambda: trigger("a b", dict, id=str), "cannot be a topic"),
    (lambda: trigger("t", dict, id="order_id"), "functions of a value"),
    (lambda: trigger("t", dict, id=str, format="xml"), "must be one of json"),
    (lambda: trigger("t", dict, id=str)(takes_two), "not above"),
    (lambda: trigger("t", Order, id=str)(workflow.defn(takes_two)), "must take one argument"),
    (lambda: trigger("t", dict, id=str, start=True)(sale()), "not above"),
    (twice, "already bound here"),
    (start_takes_two, "more than one argument"),
]


@pytest.mark.parametrize(("code", "said"), BAD_CODE, ids=[said for _, said in BAD_CODE])
def test_an_invalid_trigger_is_refused_on_its_line(code: Callable[[], Any], said: str) -> None:
    with pytest.raises(UsageError, match=rf"test_triggers\.py:\d+.*{said}"):
        code()
