"""Triggers on a bad day: partitions that move, an owner that dies within a transaction, a registry
that is down, records that are refused."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import fastavro as _fastavro
from confluent_kafka import Consumer, Producer, TopicPartition

from perdure import workflow
from perdure.adapters.kafka.admin.dead_letters import KafkaDeadLetters
from perdure.adapters.kafka.ingest.ingest import Ingest
from perdure.adapters.kafka.namespace.metadata import SCHEMA_ID, write_facts
from perdure.adapters.kafka.status import Status
from perdure.client import Client
from perdure.distributed import EngineOptions, KafkaPlatform, Place
from perdure.distributed.ingesting import ingest_of
from perdure.model.commands import SignalWorkflow, StartWorkflow
from perdure.ports.dead_letters import OpenLetter
from perdure.registry import Registry
from perdure.schemas import NAMES, current
from tests.kafka.apps import shop
from tests.kafka.labour import until
from tests.kafka.namespace import Namespace
from tests.kafka.test_ingest import commands, orders, send

__all__ = ["orders"]

fastavro: Any = _fastavro
MOVING_S = 10
"""How long partitions go on moving when everything has been sent."""

SCHEMA = {
    "type": "record",
    "name": "Order",
    "fields": [{"name": "order_id", "type": "string"}, {"name": "cents", "type": "long"}],
}


@contextmanager
def ingesting(
    namespace: Namespace, workflows: list[Any], name: str = "one", **settings: str
) -> Generator[tuple[Ingest, Status, list[str]]]:
    """An ingest, its status and what it says."""
    said: list[str] = []

    def report(message: str, /, **where: str | int) -> None:
        said.append(message)

    where = Place(namespace.name, {"bootstrap.servers": namespace.bootstrap, **settings})
    ingest, status = ingest_of(Registry.of(workflows), where, name, report)
    thread = threading.Thread(target=ingest.run)
    thread.start()
    try:
        yield ingest, status, said
    finally:
        ingest.request_stop()
        thread.join(60)
        assert not thread.is_alive()


def the_letter(namespace: Namespace) -> tuple[KafkaDeadLetters, OpenLetter]:
    letters = KafkaDeadLetters(namespace.name, {"bootstrap.servers": namespace.bootstrap})
    (listed,) = letters.page().letters
    (found,) = letters.get([listed.id])
    return letters, found


def test_every_record_becomes_one_command_though_partitions_move_all_the_time(
    namespace: Namespace, orders: str
) -> None:
    """They come to rest in the end: on a slow machine, a member that goes before it has come leaves
    nobody time to commit."""
    names = [f"o-{number}" for number in range(6_000)]
    is_over = threading.Event()
    came: list[str] = []

    def come_and_go(name: str, stay_s: float) -> None:
        while not is_over.is_set():
            with ingesting(namespace, shop.workflows_of(orders), name):
                came.append(name)
                is_over.wait(stay_s)

    others = [threading.Thread(target=come_and_go, args=each) for each in (("b", 0.4), ("c", 0.7))]
    with ingesting(namespace, shop.workflows_of(orders), "a"):
        for other in others:
            other.start()
        for begin in range(0, len(names), 100):
            send(
                namespace,
                f"{orders}.orders",
                [{"order_id": name, "cents": 5} for name in names[begin : begin + 100]],
            )
            is_over.wait(0.05)
        is_over.wait(MOVING_S)
        is_over.set()
        for other in others:
            other.join()
        until(lambda: len(namespace.read("commands")) >= len(names), "all are there", 60)
    assert len(came) > 2
    assert Counter(command.workflow_id for command in commands(namespace)) == Counter(names)


def test_an_owner_that_died_within_a_transaction_is_fenced_and_not_waited_for(
    namespace: Namespace, orders: str
) -> None:
    send(namespace, f"{orders}.orders", [{"order_id": "o-1", "cents": 5}])
    with ingesting(namespace, shop.workflows_of(orders), "dead") as (ingest, _, _):
        until(lambda: ingest.counts.records == 1, "it has an offset with its id")
    group = f"{namespace.name}.ingest"
    member = Consumer(
        {"bootstrap.servers": namespace.bootstrap, "group.id": group, "auto.offset.reset": "earliest"}
    )
    member.subscribe([f"{orders}.orders"])
    until(lambda: member.poll(0.1) is None and member.assignment(), "it is a member")
    dead = Producer(
        {"bootstrap.servers": namespace.bootstrap, "transactional.id": f"{namespace.name}.ingest.dead"}
    )
    dead.init_transactions(20)
    dead.begin_transaction()
    dead.produce(f"{namespace.name}.commands", b"never", "o-1")
    offsets = [TopicPartition(f"{orders}.orders", number, 1) for number in range(3)]
    dead.send_offsets_to_transaction(offsets, member.consumer_group_metadata(), 20)
    member.close()
    with ingesting(namespace, shop.workflows_of(orders), "heir") as (ingest, status, said):
        send(namespace, f"{orders}.orders", [{"order_id": "o-1", "cents": 6}])
        until(lambda: ingest.counts.records == 1, "it goes on", 40)
        assert status.counts.owners_fenced == 1
    assert any(f"{namespace.name}.ingest.dead has left a transaction open" in line for line in said)
    assert [json.loads(command.input)[0]["cents"] for command in commands(namespace)] == [5, 6]


def test_a_topic_that_is_not_there_is_waited_for_and_the_others_are_read(namespace: Namespace) -> None:
    name = f"{namespace.name}-late"
    namespace.create({f"{name}.orders": 1})
    with ingesting(namespace, shop.workflows_of(name)) as (ingest, status, _):
        send(namespace, f"{name}.orders", [{"order_id": "o-1", "cents": 5}])
        until(lambda: ingest.counts.records == 1, "the topic that is there is read")
        until(lambda: f"the topic {name}.payments" in status.waiting_for, "the reason is told")
        namespace.create({f"{name}.payments": 1})
        send(namespace, f"{name}.payments", [{"order_id": "o-1"}])
        until(lambda: ingest.counts.records == 2, "it is found")
        until(lambda: not status.waiting_for, "nothing is waited for")
    assert {type(command) for command in commands(namespace)} == {StartWorkflow, SignalWorkflow}


OURS = {100 + number: current(name) for number, name in enumerate(NAMES)}
KNOWN = {7: json.dumps(SCHEMA)} | {number: json.dumps(schema.parsed()) for number, schema in OURS.items()}


class Registrar(BaseHTTPRequestHandler):
    """A schema registry that may be down."""

    is_down = False

    def do_GET(self) -> None:
        schema = KNOWN.get(int(self.path.removeprefix("/schemas/ids/")))
        body = json.dumps({"schema": schema} if schema else {"error_code": 40403}).encode()
        self.send_response(503 if Registrar.is_down else 200 if schema else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@contextmanager
def registrar() -> Generator[str]:
    Registrar.is_down = False
    with HTTPServer(("127.0.0.1", 0), Registrar) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def framed(number: int, order: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, SCHEMA, order)
    return b"\0" + number.to_bytes(4, "big") + out.getvalue()


@dataclass
class Order:
    order_id: str
    cents: int


def test_records_wait_for_a_registry_that_is_down_and_others_are_handled(namespace: Namespace) -> None:
    avro, plain = f"{namespace.name}-avro", f"{namespace.name}-plain"
    namespace.create({avro: 1, plain: 1})

    @workflow.defn
    class Framed:
        @workflow.trigger(avro, Order, id=lambda order: order.order_id, format="avro")
        @workflow.trigger(plain, Order, id=lambda order: order.order_id)
        @workflow.run
        async def run(self, order: Order) -> None: ...

    namespace.create({f"{namespace.name}.meta": 1})
    ids = {f"{SCHEMA_ID}{schema.header.decode()}": b"%d" % number for number, schema in OURS.items()}
    write_facts({"bootstrap.servers": namespace.bootstrap}, f"{namespace.name}.meta", ids)
    with (
        registrar() as url,
        ingesting(namespace, [Framed], **{"schema.registry.url": url}) as (ingest, status, _),
    ):
        send(namespace, plain, [{"order_id": "p-1", "cents": 1}])
        until(lambda: ingest.counts.commands == 1, "it has begun")
        Registrar.is_down = True
        send(
            namespace,
            avro,
            [framed(7, {"order_id": "a-1", "cents": 1}), framed(8, {"order_id": "a-2", "cents": 1})],
        )
        until(lambda: "the schema registry" in status.waiting_for, "the reason is told")
        send(namespace, plain, [{"order_id": "p-2", "cents": 1}])
        until(lambda: ingest.counts.commands == 2, "what needs no registry is read")
        Registrar.is_down = False
        until(lambda: ingest.counts.records == 4, "all are read")
        assert not status.waiting_for
    assert sorted(command.workflow_id for command in commands(namespace)) == ["a-1", "p-1", "p-2"]
    assert [(letter.reason, letter.topic, letter.offset) for letter in namespace.dead_letters()] == [
        ("unknown_schema", avro, 1)
    ]


def test_a_trigger_that_raises_keeps_no_other_back_and_its_record_may_be_offered_again(
    namespace: Namespace,
) -> None:
    topic = f"{namespace.name}-orders"
    namespace.create({topic: 1, f"{namespace.name}.meta": 1})

    def workflows(id_of: Any) -> list[Any]:
        @workflow.defn
        class Good:
            @workflow.trigger(topic, Order, id=lambda order: f"good-{order.order_id}")
            @workflow.run
            async def run(self, order: Order) -> None: ...

        @workflow.defn
        class Bad:
            @workflow.trigger(topic, Order, id=id_of)
            @workflow.run
            async def run(self, order: Order) -> None: ...

        return [Good, Bad]

    def raises(order: Order) -> str:
        raise LookupError("not in the table")

    with ingesting(namespace, workflows(raises)) as (ingest, _, said):
        send(namespace, topic, [{"order_id": "o-1", "cents": 5}, {"order_id": "o-2", "cents": 5}])
        until(lambda: ingest.counts.records == 2, "nothing stops")
        assert any("LookupError: not in the table" in line for line in said)
    assert sorted(command.workflow_id for command in commands(namespace)) == ["good-o-1", "good-o-2"]

    letters = KafkaDeadLetters(namespace.name, {"bootstrap.servers": namespace.bootstrap})
    found = letters.page().letters
    assert [(each.letter.reason, each.letter.offset, letters.fault_of(each)) for each in found] == [
        ("trigger_failed", 0, ""),
        ("trigger_failed", 1, ""),
    ]
    letters.retry(found[:1])

    def fixed(order: Order) -> str:
        return f"bad-{order.order_id}"

    with ingesting(namespace, workflows(fixed)) as (ingest, _, _):
        until(lambda: ingest.counts.records == 1, "it is offered again")
    assert len(namespace.read("commands")) == 4, (
        "to all of them, under the same request ids: the engine does each once"
    )
    requests = Counter(command.request_id for command in commands(namespace))
    assert sorted(requests.values()) == [1, 1, 2]
    assert [each.id for each in letters.page().letters] == [found[1].id]
    high = Consumer({"bootstrap.servers": namespace.bootstrap, "group.id": "any"})
    assert high.get_watermark_offsets(TopicPartition(topic, 0), 10)[1] == 2, (
        "the topic of others is not written to"
    )
    high.close()


def test_a_signal_to_a_missing_run_is_a_dead_letter_and_delivered_when_retried(
    namespace: Namespace, orders: str, tmp_path: Path
) -> None:
    sale = shop.workflows_of(orders)
    namespace.create({f"{namespace.name}.meta": 1})
    place = Place(namespace.name, {"bootstrap.servers": namespace.bootstrap})
    with (
        KafkaPlatform(Registry.of(sale), place, engine=EngineOptions(state_dir=tmp_path)),
        ingesting(namespace, sale) as (ingest, _, _),
    ):
        send(namespace, f"{orders}.payments", [{"order_id": "o-1", "cents": 5}])
        until(lambda: namespace.dead_letters(), "the engine refuses it")
        letters, letter = the_letter(namespace)
        found = letter.letter
        assert (found.topic, found.offset, found.reason) == (f"{orders}.payments", 0, "refused")
        assert "no run with this id" in found.message
        assert found.key is not None, "of the record itself, which is still there"
        assert b"o-1" in (found.value or b"")
        again = letters.failed_again(letters.retry([letter]), 60.0)
        assert list(again.failed) == [letter.id]
        assert not again.waiting
        letters, letter = the_letter(namespace)
        send(
            namespace, f"{orders}.orders", [{"order_id": "o-1", "cents": 7}, {"order_id": "o-1", "cents": 8}]
        )
        until(lambda: ingest.counts.records == 4, "it is started, and asked to start again")
        assert letters.fault_of(letter) == ""
        letters.retry([letter])

        async def main() -> Any:
            async with Client.connect(f"kafka://{namespace.bootstrap}/{namespace.name}") as client:
                return await asyncio.wait_for(client.get_by_name("o-1").result(), 30)

        assert asyncio.run(main()) == 7
        assert letters.page().letters == [], "a start of what was started before is no fault"
