"""The Kafka that the other tests stand on: it keeps its data through a kill, and it never outlives
who started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.kafka.broker import Cluster

HOUSE = Path(__file__).parents[2]
PARENT = """
import signal, sys
from tests.kafka.broker import running
with running() as cluster:
    print(cluster.brokers[0]._process.pid, flush=True)
    signal.pause()
"""


def test_what_was_acknowledged_survives_kill_9_of_its_leader(kafka_cluster: Cluster) -> None:
    create_topic(kafka_cluster.bootstrap, "survivor")
    deliver(kafka_cluster.bootstrap, "survivor", b"before")
    leader = leader_of(kafka_cluster.bootstrap, "survivor")
    kafka_cluster.brokers[leader - 1].kill()
    deliver(kafka_cluster.bootstrap, "survivor", b"while it is down")
    kafka_cluster.brokers[leader - 1].start()
    kafka_cluster.wait_until_ready()
    assert read(kafka_cluster.bootstrap, "survivor", 2) == [b"before", b"while it is down"]


def test_a_paused_broker_is_silent_until_it_is_resumed(kafka_cluster: Cluster) -> None:
    broker = kafka_cluster.brokers[0]
    broker.pause()
    with pytest.raises(KafkaException):
        AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0}).list_topics(timeout=1)
    broker.resume()
    kafka_cluster.wait_until_ready()
    assert len(AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=10).brokers) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_a_broker_dies_with_the_process_that_started_it(kafka: str, tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}  # killed, it leaves its folder
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=HOUSE, env=environment, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        broker = int(parent.stdout.readline())
        os.kill(broker, 0)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while is_alive(broker):
        assert time.monotonic() < deadline


def is_alive(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def create_topic(bootstrap: str, name: str) -> None:
    admin: Any = AdminClient({"bootstrap.servers": bootstrap})  # it must outlive its futures
    admin.create_topics([NewTopic(name, 1)])[name].result(30)


def leader_of(bootstrap: str, topic: str) -> int:
    return (
        AdminClient({"bootstrap.servers": bootstrap})
        .list_topics(topic, 30)
        .topics[topic]
        .partitions[0]
        .leader
    )


def deliver(bootstrap: str, topic: str, value: bytes) -> None:
    faults: list[object] = []
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "log_level": 0})
    producer.produce(topic, value, on_delivery=lambda error, _: faults.append(error))
    assert producer.flush(30) == 0
    assert faults == [None]


def read(bootstrap: str, topic: str, count: int) -> list[bytes | None]:
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "reader", "auto.offset.reset": "earliest"}
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    values: list[bytes | None] = []
    deadline = time.monotonic() + 30
    while len(values) < count and time.monotonic() < deadline:
        values += [message.value() for message in consumer.consume(count, 1) if message.error() is None]
    consumer.close()
    return values
