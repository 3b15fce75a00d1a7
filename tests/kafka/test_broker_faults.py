"""Brokers die in the middle of commits: no transaction is split, no data is lost, nothing is done
twice (docs/internals/kafka.md).

Three brokers: a single one that is killed in mid-commit can hang for ever.
"""

from __future__ import annotations

import threading
from functools import partial

import pytest

from tests.kafka.broker import Cluster
from tests.kafka.namespace import Namespace, wait_until


@pytest.mark.timeout(300)
def test_brokers_killed_in_turn_under_load_split_no_transaction(kafka_cluster: Cluster) -> None:
    namespace = Namespace(kafka_cluster.bootstrap)
    with namespace.process("a") as a, namespace.process("b") as b:
        a.wait_for("gained")
        b.wait_for("gained")
        with namespace.load(every_s=0.02, burst=4):
            for broker in kafka_cluster.brokers:
                enough = len(namespace.sent) + 200
                broker.kill()
                threading.Event().wait(0.5)
                broker.start()
                kafka_cluster.wait_until_ready()
                wait_until(partial(_has_sent, namespace, enough), 60)
        namespace.until_applied(90)
        a.end()
        b.end()
    namespace.audit().assert_exactly_once()


@pytest.mark.timeout(240)
def test_silent_brokers_are_reported_and_work_continues_when_they_answer(
    kafka_cluster: Cluster,
) -> None:
    namespace = Namespace(kafka_cluster.bootstrap)
    with namespace.process("a") as a:
        a.wait_for("gained")
        namespace.send_numbers(100)
        with namespace.load(every_s=0.02, burst=4):
            wait_until(lambda: len(namespace.sent) > 500)
            for broker in kafka_cluster.brokers:
                broker.pause()
            a.wait_for("waiting for the broker", 60)
            for broker in kafka_cluster.brokers:
                broker.resume()
            a.wait_for("the broker responds again", 60)
        namespace.until_applied(90)
        a.end()
    namespace.audit().assert_exactly_once()


def _has_sent(namespace: Namespace, count: int) -> bool:
    return len(namespace.sent) > count
