"""What `perdure ingest` does: records a second of another system's topic, beside the floor: read,
written and committed with nothing in between. Prints JSON.

The records are JSON, partitioned by their producer with CRC32; a trigger decodes each and starts a
workflow of it. Nobody decides the starts meanwhile.

usage: [BOOTSTRAP=host:port] python -m bench.ingest [--records 100000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from perdure import workflow
from tests.kafka.broker import STEADY, running

TOPIC = os.environ.get("INGEST_TOPIC", "bench.orders")
PARTITIONS = 4
BATCH = 2_000


@dataclass
class Line:
    sku: str
    quantity: int


@dataclass
class Placed:
    order_id: str
    customer: str
    cents: int
    lines: list[Line]


@workflow.defn
class Order:
    @workflow.trigger(TOPIC, Placed, id=lambda placed: placed.order_id)
    @workflow.run
    async def process(self, placed: Placed) -> None: ...


def made(bootstrap: str, topic: str) -> None:
    admin: Any = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, PARTITIONS)])[topic].result(30)


def sold(bootstrap: str, topic: str, records: int) -> None:
    made(bootstrap, topic)
    producer = Producer(
        {"bootstrap.servers": bootstrap, "linger.ms": 5, "queue.buffering.max.messages": 2 * records}
    )
    for number in range(records):
        order = Placed(
            f"order-{number}", f"customer-{number % 997}", 4200, [Line("apple", 3), Line("pear", 1)]
        )
        producer.produce(topic, json.dumps(order, default=vars), order.customer)
    assert producer.flush(120) == 0


def seen(bootstrap: str, topic: str, records: int) -> float:
    """Seconds from the first committed record to the last."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "bench", "isolation.level": "read_committed"}
    )
    consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    begun = last = 0.0
    count, until = 0, time.monotonic() + 120
    while count < records:
        assert time.monotonic() < until, f"{count} of {records}"
        found = consumer.consume(10_000, 0.01)
        if found:
            last = time.perf_counter()
            begun = begun or last
        count += len(found)
    consumer.close()
    return last - begun


def ours(bootstrap: str, records: int) -> float:
    namespace = f"bench{uuid4().hex[:8]}"
    topic = f"{namespace}-orders"
    common = ["--kafka", bootstrap, "--namespace", namespace]
    perdure = str(Path(sys.executable).parent / "perdure")
    subprocess.run(
        [perdure, "topics", "apply", *common, "--partitions", str(PARTITIONS), "--replication", "1"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    sold(bootstrap, topic, records)
    with started([perdure, "ingest", __file__, *common], topic):
        return records / seen(bootstrap, f"{namespace}.commands", records)


def floor(bootstrap: str, records: int) -> float:
    name = f"bench{uuid4().hex[:8]}"
    sold(bootstrap, f"{name}-orders", records)
    made(bootstrap, f"{name}-out")
    with started(
        [sys.executable, "-m", "bench.ingest", "--floor", bootstrap, f"{name}-orders", f"{name}-out"], TOPIC
    ):
        return records / seen(bootstrap, f"{name}-out", records)


@contextlib.contextmanager
def started(command: list[str], topic: str) -> Generator[None]:
    process = subprocess.Popen(command, env={**os.environ, "INGEST_TOPIC": topic}, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def copy(bootstrap: str, source: str, target: str) -> None:
    """The floor."""
    reading = {
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
    }
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": source, **reading})
    consumer.subscribe([source])
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "transactional.id": source,
            "linger.ms": 5,
            "partitioner": "murmur2_random",
        }
    )
    producer.init_transactions()
    while True:
        if not (records := consumer.consume(BATCH, 0.1)):
            continue
        producer.begin_transaction()
        for record in records:
            producer.produce(target, record.value(), record.key())
        producer.send_offsets_to_transaction(
            consumer.position(consumer.assignment()), consumer.consumer_group_metadata()
        )
        producer.commit_transaction()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--floor", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.floor:
        return copy(*given.floor)
    with contextlib.ExitStack() as stack:
        bootstrap: str = (
            os.environ.get("BOOTSTRAP") or stack.enter_context(running(1, options=STEADY)).bootstrap
        )
        rounds = [
            (ours(bootstrap, given.records), floor(bootstrap, given.records)) for _ in range(given.rounds)
        ]
    found: dict[str, Any] = {
        "benchmark": "ingest",
        "records": given.records,
        "records_per_s": round(median(each for each, _ in rounds)),
        "floor_per_s": round(median(each for _, each in rounds)),
        "of_floor": round(median(one / other for one, other in rounds), 2),
    }
    print(json.dumps(found))
    return None


if __name__ == "__main__":
    main()
