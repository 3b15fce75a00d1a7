"""Records of other systems start and signal workflows exactly once, with any partitioner and
whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from perdure.adapters.kafka.ingest.ingest import Ingest
from perdure.codec.avro import COMMANDS, HEADER
from perdure.distributed import Place
from perdure.distributed.ingesting import ingest_of
from perdure.engine.operator_log import to_stderr
from perdure.errors import UsageError
from perdure.model.commands import SignalWorkflow, StartWorkflow
from perdure.registry import Registry
from tests.kafka.apps import shop
from tests.kafka.labour import until
from tests.kafka.namespace import Namespace

ROOT = Path(__file__).parents[2]


@pytest.fixture
def orders(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> str:
    """A topic of a shop's, with three partitions, which the app in `apps/shop.py` is bound to."""
    name = f"{namespace.name}-shop"
    namespace.create({f"{name}.orders": 3, f"{name}.payments": 2})
    return name


def place(namespace: Namespace) -> Place:
    return Place(namespace.name, {"bootstrap.servers": namespace.bootstrap})


@contextmanager
def ingesting(namespace: Namespace, prefix: str, name: str = "one", **options: Any) -> Generator[Ingest]:
    registry = Registry.of(shop.workflows_of(prefix))
    ingest, _ = ingest_of(registry, place(namespace), name, to_stderr, **options)
    thread = threading.Thread(target=ingest.run)
    thread.start()
    try:
        yield ingest
    finally:
        ingest.request_stop()
        thread.join(60)
        assert not thread.is_alive()


def process(namespace: Namespace, prefix: str, name: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "perdure.cli", "ingest", "tests/kafka/apps/shop.py", "--instance", name]
    where = ["--kafka", namespace.bootstrap, "--namespace", namespace.name]

    return subprocess.Popen([*command, *where], cwd=ROOT, env={**os.environ, "SHOP": prefix})


def send(namespace: Namespace, topic: str, values: list[Any], **settings: Any) -> None:
    """As a shop that knows nothing of perdure: JSON, librdkafka's own partitioner."""
    producer = Producer({"bootstrap.servers": namespace.bootstrap, **settings})
    for value in values:
        found: Any = value
        key = str(found["order_id"]) if isinstance(value, dict) else None
        producer.produce(
            topic, value if isinstance(value, bytes) or value is None else json.dumps(value), key
        )
    assert producer.flush(30) == 0


def commands(namespace: Namespace) -> list[Any]:
    found = namespace.read("commands")
    for each in found:
        assert each.partition() == namespace.place_of(each.key().decode()), (
            "on the partition of its workflow id"
        )
    return [COMMANDS.decode(each.value(), dict(each.headers())[HEADER]) for each in found]


def test_every_record_becomes_one_command_though_ingests_are_killed(
    namespace: Namespace, orders: str
) -> None:
    names = [f"o-{number}" for number in range(3_000)]
    mortals = {name: process(namespace, orders, name) for name in ("a", "b")}
    try:
        for begin in range(0, 3_000, 1_000):
            send(
                namespace,
                f"{orders}.orders",
                [{"order_id": name, "cents": 5} for name in names[begin : begin + 1_000]],
            )
            until(lambda: len(namespace.read("commands")) > begin + 100, "it is at work")  # noqa: B023
            for name in ("a", "b") if begin else ("a",):
                mortals[name].send_signal(signal.SIGKILL)
                mortals[name].wait()
                mortals[name] = process(namespace, orders, name)
        until(lambda: len(namespace.read("commands")) >= 3_000, "all are there", 90)
    finally:
        for each in mortals.values():
            each.terminate()
            each.wait(30)
    found = commands(namespace)
    assert Counter(command.workflow_id for command in found) == Counter(names)
    assert {type(command) for command in found} == {StartWorkflow}


def test_the_order_of_a_key_is_kept(namespace: Namespace, orders: str) -> None:
    values = [{"order_id": f"o-{number % 7}", "number": number} for number in range(700)]
    with ingesting(namespace, orders):
        send(namespace, f"{orders}.payments", values)
        until(lambda: len(namespace.read("commands")) == 700, "all are there")
    seen: dict[str, list[int]] = {}
    for command in commands(namespace):
        assert isinstance(command, SignalWorkflow)
        seen.setdefault(command.workflow_id, []).append(json.loads(command.input)[0]["number"])
    assert all(numbers == sorted(numbers) for numbers in seen.values())


def test_bad_records_are_dead_letters_with_their_place_and_stop_nothing(
    namespace: Namespace, orders: str
) -> None:
    good = {"order_id": "o-1", "cents": 5}
    with ingesting(namespace, orders) as ingest:
        send(
            namespace,
            f"{orders}.orders",
            [b"{", {"order_id": 7, "cents": 1}, None, {"order_id": "", "cents": 1}, good],
        )
        until(lambda: ingest.counts.records == 5, "all are read")
    letters = namespace.dead_letters()
    assert Counter(letter.reason for letter in letters) == Counter(
        {"undecodable": 2, "tombstone": 1, "bad_id": 1}
    )
    assert all(letter.topic == f"{orders}.orders" and letter.offset >= 0 for letter in letters)
    assert {letter.value for letter in letters} >= {b"{", None}
    assert [command.workflow_id for command in commands(namespace)] == ["o-1"]
    assert (ingest.counts.commands, ingest.counts.dead_letters) == (1, 4)


def test_a_new_group_may_begin_at_the_end(namespace: Namespace, orders: str) -> None:
    send(namespace, f"{orders}.orders", [{"order_id": "old", "cents": 5}])
    with ingesting(namespace, orders, begin="latest") as ingest:

        def seen() -> bool:
            send(namespace, f"{orders}.orders", [{"order_id": "new", "cents": 5}])
            return ingest.counts.records > 0

        until(seen, "it has joined")
    assert {command.workflow_id for command in commands(namespace)} == {"new"}


def test_ingest_of_an_app_without_triggers_is_refused(namespace: Namespace) -> None:
    with pytest.raises(UsageError, match="no trigger"):
        ingest_of(Registry(), place(namespace), "one", to_stderr)
