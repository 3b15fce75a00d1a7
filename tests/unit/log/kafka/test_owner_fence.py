"""Committed offsets behind an open transaction: who is fenced, and who never is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from perdure.adapters.kafka.clients import owner_fence as module
from perdure.adapters.kafka.clients.owner_fence import OwnerFence
from perdure.adapters.kafka.status import Status

A, B = ("ns.commands", 0), ("ns.commands", 1)
PENDING = KafkaException(KafkaError(KafkaError._TIMED_OUT))
MOVING = KafkaException(KafkaError(KafkaError.NOT_COORDINATOR))


class Broker:
    """Committed offsets of 7, by `owner`; those in `pending` cannot be read before a fence."""

    transactional_id = "ns.me"

    def __init__(self, *pending: tuple[str, int], trouble: KafkaException = PENDING) -> None:
        self.pending = set(pending)
        self.trouble = trouble
        self.owner = {A: "ns.first", B: "ns.second"}
        self.fenced: list[str] = []
        self.looked_for_owners: list[list[tuple[str, int]]] = []

    def committed(self, wanted: list[TopicPartition], timeout: float) -> list[Any]:
        if any((each.topic, each.partition) in self.pending for each in wanted):
            raise self.trouble
        return [SimpleNamespace(topic=e.topic, partition=e.partition, offset=7, error=None) for e in wanted]

    def offsets(self, _on_error: Any, group: str) -> Any:
        assert group == "ns.group"

        def committed(wanted: list[TopicPartition], timeout: float) -> list[Any]:
            places = [(each.topic, each.partition) for each in wanted]
            self.looked_for_owners.append(places)
            return [
                SimpleNamespace(topic=t, partition=n, metadata=self.owner[t, n], error=None)
                for t, n in places
            ]

        return SimpleNamespace(committed=committed, close=lambda: None)

    def producer(self, _on_error: Any, owner: str) -> Any:
        def fence(_timeout_s: float) -> None:
            self.fenced.append(owner)
            self.pending = {place for place in self.pending if self.owner[place] != owner}

        return SimpleNamespace(init_transactions=fence)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STUCK_AFTER_S", 0.01)
    monkeypatch.setattr(module, "REQUEST_TIMEOUT_S", 0.1)


def fence_of(broker: Broker, said: list[str] | None = None) -> OwnerFence:
    def report(message: str, /, **_where: str | int) -> None:
        if said is not None:
            said.append(message)

    clients: Any = broker
    return OwnerFence(clients, Status(report), "ns.group", role="ingest")


def test_offsets_that_can_be_read_are_returned_and_no_owner_is_looked_for() -> None:
    broker: Any = Broker()
    assert fence_of(broker).stable_offsets(broker, [A, B]) == {A: 7, B: 7}
    assert (broker.fenced, broker.looked_for_owners) == ([], [])


def test_only_the_owner_of_the_pending_partition_is_fenced() -> None:
    broker, said = Broker(B), list[str]()
    reader: Any = broker
    assert fence_of(broker, said).stable_offsets(reader, [A, B]) == {A: 7, B: 7}
    assert broker.fenced == ["ns.second"]
    assert said == ["ingest ns.second has left a transaction open; fencing it"]


def test_owner_of_hidden_records_is_fenced_though_its_offsets_can_be_read() -> None:
    broker: Any = Broker()
    assert fence_of(broker).stable_offsets(broker, [A, B], lambda _: {A}) == {A: 7, B: 7}
    assert broker.fenced == ["ns.first"]


def test_owner_of_several_partitions_is_fenced_once() -> None:
    broker: Any = Broker(A, B)
    broker.owner = {A: "ns.first", B: "ns.first"}
    fence_of(broker).stable_offsets(broker, [A, B])
    assert broker.fenced == ["ns.first"]


@pytest.mark.parametrize("owner", ["ns.me", "", None])
def test_neither_our_own_id_nor_an_empty_one_is_fenced(owner: Any) -> None:
    broker: Any = Broker(A)
    broker.owner[A] = owner
    with pytest.raises(KafkaException):
        fence_of(broker).stable_offsets(broker, [A])
    assert broker.fenced == []


def test_error_of_a_request_is_no_sign_of_a_stuck_owner() -> None:
    broker: Any = Broker(A, trouble=MOVING)
    with pytest.raises(KafkaException) as raised:
        fence_of(broker).stable_offsets(broker, [A, B])
    assert (raised.value, broker.fenced) == (MOVING, [])
