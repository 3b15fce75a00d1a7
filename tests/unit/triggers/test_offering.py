"""Records that are offered once more, and records that several triggers read."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from typing import Any

import pytest

from perdure import workflow
from perdure.model.commands import SignalWorkflow, StartWorkflow
from perdure.triggers import CloudEvent
from perdure.triggers.binding import Source
from perdure.triggers.decoding import BadRecord
from perdure.triggers.offering import FIRST_PLACE, first_source, offered_headers
from tests.unit.triggers.test_triggers import CONTEXT, SCHEMA, Order, avro, bindings, of_nothing, record, sale

FIRST = Source("shop.orders", 2, 41, b"k", b"v", [("trace", b"7"), ("none", None)])


def offered(source: Source, offset: int) -> Source:
    """A record as it is in the topic of retried records."""
    return replace(source, topic="ns.ingest", partition=0, offset=offset, headers=offered_headers(source))


def test_a_record_that_is_offered_again_is_the_one_that_was_found_first() -> None:
    again = first_source(offered(FIRST, 3))
    assert again == FIRST
    assert first_source(offered(again, 4)) == FIRST, "however often"
    assert [name for name, _ in offered(again, 4).headers].count(FIRST_PLACE) == 1


@pytest.mark.parametrize("place", [b"elsewhere/0/1", b"no place", b"", None])
def test_a_record_that_came_with_a_place_of_its_own_is_offered_with_the_true_one(place: bytes | None) -> None:
    source = replace(FIRST, headers=[(FIRST_PLACE, place), *FIRST.headers])
    assert [value for name, value in offered(source, 3).headers if name == FIRST_PLACE] == [
        b"shop.orders/2/41"
    ]
    assert first_source(offered(source, 3)) == FIRST


@pytest.mark.parametrize(
    "place", [None, b"", b"shop.orders", b"shop.orders/x/1", b"shop.orders/1/", b"/1/2", b"t/-1/2"]
)
def test_a_record_that_does_not_say_where_it_was_found_is_itself(place: bytes | None) -> None:
    source = replace(FIRST, headers=[(FIRST_PLACE, place)])
    assert first_source(source) is source


def test_what_it_has_led_to_already_has_the_same_request_id() -> None:
    source = record({"id": "o-1", "cents": 5})
    (first,) = bindings(sale()).commands_of(source)
    (again,) = bindings(sale()).commands_of(first_source(offered(source, 9)))
    assert again == first


def test_a_trigger_that_cannot_take_a_record_blocks_no_other_and_the_first_fault_is_reported() -> None:
    @workflow.defn
    class Sale:
        @workflow.trigger("shop.orders", Order, id=of_nothing)
        @workflow.run
        async def run(self, order: Order) -> None: ...

        @workflow.trigger("shop.orders", Order, id=lambda order: order.id)
        @workflow.signal
        def paid(self, order: Order) -> None: ...

        @workflow.trigger("shop.orders", Order, id=lambda _: "")
        @workflow.signal
        def packed(self, order: Order) -> None: ...

    with pytest.raises(BadRecord) as caught:
        bindings(Sale).commands_of(record({"id": "o-1", "cents": 5}))
    assert caught.value.reason == "trigger_failed"
    (command,) = caught.value.commands
    assert isinstance(command, SignalWorkflow)
    assert (command.name, command.workflow_id) == ("paid", "o-1")


def test_one_method_may_be_bound_to_several_topics() -> None:
    @workflow.trigger("shop.orders", dict[str, Any], id=lambda value: value["id"])
    @workflow.trigger("old.orders", dict[str, Any], id=lambda value: f"old-{value['id']}")
    @workflow.defn
    async def sell(order: dict[str, Any]) -> None:
        """Nothing."""

    bound = bindings(sell)
    assert bound.topics == ["old.orders", "shop.orders"]
    ids = [
        each.workflow_id
        for topic in bound.topics
        for each in bound.commands_of(record({"id": "1"}, topic=topic))
    ]
    assert ids == ["old-1", "1"]


def test_a_run_that_a_signal_starts_gets_the_record_when_it_takes_one() -> None:
    @workflow.defn
    class Tally:
        @workflow.run
        async def run(self, first: Order) -> None: ...

        @workflow.trigger("shop.orders", Order, id=lambda _: "tally", start=True)
        @workflow.signal
        def count(self, order: Order) -> None: ...

    (command,) = bindings(Tally).commands_of(record({"id": "o-1", "cents": 5}))
    assert isinstance(command, StartWorkflow)
    assert command.input == command.signal_input == b'[{"id":"o-1","cents":5}]'
    assert command.if_closed == "start", "another one begins when the last has ended"


def test_a_request_id_fits_and_keeps_what_tells_records_apart() -> None:
    topic = "t" * 249
    bound = workflow.trigger(topic, Order, id=lambda order: order.id)
    ids: list[str] = []
    for offset in (7, 8):
        source = replace(record({"id": "o-1", "cents": 5}, topic=topic), offset=offset)
        (command,) = bindings(bound(workflow.defn(_sell))).commands_of(source)
        assert isinstance(command, StartWorkflow)
        ids.append(command.request_id)
    assert [len(each) for each in ids] == [255, 255]
    assert ids[0] != ids[1]


def test_records_types_and_signals_have_request_ids_of_their_own_however_long_their_names_are() -> None:
    kinds = [_tally(f"{'n' * 240}{end}") for end in "ab"]
    ids: list[str] = []
    for kind in kinds:
        for topic in ("a" * 249, "b" * 249):
            for offset in (7, 8, 10**18, 10**18 + 1):
                source = replace(record({"id": "o-1", "cents": 5}, topic=topic), offset=offset)
                for command in bindings(kind).commands_of(source):
                    assert isinstance(command, SignalWorkflow)
                    ids.append(command.request_id)
    assert len(ids) == len(set(ids)) == 2 * 2 * 4 * 2
    assert {len(each) for each in ids} == {255}


def _tally(name: str) -> Any:
    """A workflow type of a long name, whose signals are bound to topics of long names."""

    @workflow.defn(name=name)
    class Tally:
        @workflow.run
        async def run(self) -> None: ...

        @workflow.trigger("a" * 249, Order, id=lambda order: order.id)
        @workflow.trigger("b" * 249, Order, id=lambda order: order.id)
        @workflow.signal
        def one(self, order: Order) -> None: ...

        @workflow.trigger("a" * 249, Order, id=lambda order: order.id)
        @workflow.trigger("b" * 249, Order, id=lambda order: order.id)
        @workflow.signal
        def two(self, order: Order) -> None: ...

    return Tally


async def _sell(order: Order) -> None:
    """Nothing."""


def test_a_cloudevent_may_hold_its_data_as_base64_of_any_type() -> None:
    event = {
        "specversion": "1.0",
        "id": "e",
        "source": "/s",
        "type": "t",
        "subject": "o-1",
        "datacontenttype": "application/avro",
    }
    body = event | {"data_base64": b64encode(avro({"id": "o-1", "cents": 5})).decode()}
    seen: list[Any] = []

    def id_of(value: CloudEvent[Order]) -> str:
        seen.append(value)
        return value.subject

    bound = bindings(sale(value=CloudEvent[Order], id=id_of, schema=SCHEMA))
    (command,) = bound.commands_of(record(body, ("content-type", b"Application/CloudEvents+JSON")))
    assert command.workflow_id == "o-1"
    assert (seen[0].data, seen[0].time) == (Order("o-1", 5), None)


def test_a_cloudevent_in_headers_has_its_content_type_beside_it() -> None:
    bound = bindings(sale(schema=""))

    def schema_of(_number: int) -> str:
        return SCHEMA

    framed = b"\0\0\0\0\7" + avro({"id": "o-1", "cents": 5})
    source = record(framed, *CONTEXT, ("content-type", b"application/avro"), ("empty", b""))
    (command,) = bound.commands_of(replace(source, headers=[*source.headers, ("null", None)]), schema_of)
    assert command.workflow_id == "o-1"


def test_avro_without_a_frame_is_not_read_as_if_it_had_one() -> None:
    with pytest.raises(BadRecord, match="without a frame"):
        bindings(sale(format="avro")).commands_of(
            record(b"\1\0\0\0\7" + avro({"id": "o", "cents": 1})), lambda _: SCHEMA
        )
    with pytest.raises(BadRecord, match="does not match its Avro schema"):
        bindings(sale(format="avro")).commands_of(record(b"\0\0\0\0\7"), lambda _: SCHEMA)
    with pytest.raises(BadRecord, match="has no schema 256"):
        bindings(sale(format="avro")).commands_of(record(b"\0\0\0\1\0x"), lambda _: None)


def test_a_dead_letter_says_what_is_wrong() -> None:
    with pytest.raises(BadRecord) as caught:
        bindings(sale()).commands_of(record(None))
    assert str(caught.value) == "it has no value"
