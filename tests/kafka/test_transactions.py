"""What each error of the transaction API leads to, injected by librdkafka's mock cluster; and that
an unknown outcome is never given up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from perdure.adapters.kafka.clients.transactional import EngineClients
from perdure.adapters.kafka.engine import transaction
from perdure.adapters.kafka.engine.transaction import Fenced, TooLarge, Transactions
from perdure.adapters.kafka.status import Status
from perdure.errors import CommitAborted, InfrastructureError
from tests.kafka.mock_cluster import Api, MockCluster
from tests.kafka.namespace import Namespace, wait_until

COMMITTED, ABORTED, FENCED, TOO_LARGE = "committed", "aborted", "fenced", "too large"

TABLE = [
    # the client tries again by itself
    (Api.ADD_PARTITIONS_TO_TXN, "COORDINATOR_NOT_AVAILABLE", COMMITTED),
    (Api.ADD_PARTITIONS_TO_TXN, "NOT_COORDINATOR", COMMITTED),
    (Api.ADD_PARTITIONS_TO_TXN, "COORDINATOR_LOAD_IN_PROGRESS", COMMITTED),
    (Api.ADD_PARTITIONS_TO_TXN, "CONCURRENT_TRANSACTIONS", COMMITTED),
    (Api.ADD_PARTITIONS_TO_TXN, "UNKNOWN_TOPIC_OR_PART", COMMITTED),
    (Api.ADD_OFFSETS_TO_TXN, "NOT_COORDINATOR", COMMITTED),
    (Api.ADD_OFFSETS_TO_TXN, "CONCURRENT_TRANSACTIONS", COMMITTED),
    (Api.TXN_OFFSET_COMMIT, "COORDINATOR_LOAD_IN_PROGRESS", COMMITTED),
    (Api.TXN_OFFSET_COMMIT, "NOT_COORDINATOR", COMMITTED),
    (Api.END_TXN, "COORDINATOR_NOT_AVAILABLE", COMMITTED),
    (Api.END_TXN, "NOT_COORDINATOR", COMMITTED),
    (Api.END_TXN, "CONCURRENT_TRANSACTIONS", COMMITTED),
    (Api.PRODUCE, "NOT_LEADER_FOR_PARTITION", COMMITTED),
    (Api.PRODUCE, "NOT_ENOUGH_REPLICAS", COMMITTED),
    # nothing was recorded
    (Api.ADD_PARTITIONS_TO_TXN, "INVALID_PRODUCER_ID_MAPPING", ABORTED),
    (Api.ADD_PARTITIONS_TO_TXN, "TOPIC_AUTHORIZATION_FAILED", ABORTED),
    (Api.ADD_PARTITIONS_TO_TXN, "OPERATION_NOT_ATTEMPTED", ABORTED),
    (Api.ADD_OFFSETS_TO_TXN, "INVALID_PRODUCER_ID_MAPPING", ABORTED),
    (Api.ADD_OFFSETS_TO_TXN, "GROUP_AUTHORIZATION_FAILED", ABORTED),
    (Api.ADD_OFFSETS_TO_TXN, "UNKNOWN", ABORTED),
    (Api.TXN_OFFSET_COMMIT, "ILLEGAL_GENERATION", ABORTED),
    (Api.TXN_OFFSET_COMMIT, "UNKNOWN_MEMBER_ID", ABORTED),
    (Api.TXN_OFFSET_COMMIT, "FENCED_INSTANCE_ID", ABORTED),
    (Api.TXN_OFFSET_COMMIT, "GROUP_AUTHORIZATION_FAILED", ABORTED),
    (Api.TXN_OFFSET_COMMIT, "UNKNOWN", ABORTED),
    (Api.END_TXN, "INVALID_PRODUCER_ID_MAPPING", ABORTED),
    (Api.END_TXN, "UNKNOWN", ABORTED),
    (Api.PRODUCE, "TOPIC_AUTHORIZATION_FAILED", ABORTED),
    (Api.PRODUCE, "UNKNOWN_PRODUCER_ID", ABORTED),
    (Api.PRODUCE, "MSG_SIZE_TOO_LARGE", TOO_LARGE),
    # the producer is of no more use
    (Api.ADD_PARTITIONS_TO_TXN, "INVALID_PRODUCER_EPOCH", FENCED),
    (Api.ADD_PARTITIONS_TO_TXN, "PRODUCER_FENCED", FENCED),
    (Api.ADD_PARTITIONS_TO_TXN, "INVALID_TXN_STATE", FENCED),
    (Api.ADD_PARTITIONS_TO_TXN, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", FENCED),
    (Api.ADD_OFFSETS_TO_TXN, "INVALID_PRODUCER_EPOCH", FENCED),
    (Api.ADD_OFFSETS_TO_TXN, "INVALID_TXN_STATE", FENCED),
    (Api.TXN_OFFSET_COMMIT, "INVALID_PRODUCER_EPOCH", FENCED),
    (Api.END_TXN, "INVALID_PRODUCER_EPOCH", FENCED),
    (Api.END_TXN, "PRODUCER_FENCED", FENCED),
    (Api.END_TXN, "INVALID_TXN_STATE", FENCED),
    (Api.END_TXN, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", FENCED),
    (Api.PRODUCE, "INVALID_PRODUCER_EPOCH", FENCED),
    (Api.PRODUCE, "OUT_OF_ORDER_SEQUENCE_NUMBER", FENCED),
]
"""The same as in docs/internals/kafka.md."""


class Bench:
    """Transactions against the mock cluster."""

    def __init__(self, cluster: MockCluster) -> None:
        cluster.create_topic("t.commands")
        cluster.create_topic("t.events")
        self.cluster = cluster
        self.said: list[str] = []
        self.status = Status(self._report)
        settings = {"bootstrap.servers": cluster.bootstrap, "log_level": 0}
        self.transactions = Transactions(EngineClients("t", "one", settings), self.status, lambda: False)
        self.transactions.open()
        self._member = Consumer({**settings, "group.id": "t.engine"})
        self._member.assign([TopicPartition("t.commands", 0, 0)])
        self._metadata: Any = self._member.consumer_group_metadata()

    def _report(self, message: str, /, **_where: str | int) -> None:
        self.said.append(message)

    def run(self, write: Any = None) -> str:
        def one(producer: Producer) -> None:
            producer.produce("t.events", b"event", partition=0)

        try:
            self.transactions.run(write or one, [TopicPartition("t.commands", 0, 5)], self._metadata)
        except Fenced:
            return FENCED
        except TooLarge:
            return TOO_LARGE
        except CommitAborted:
            return ABORTED
        return COMMITTED

    def close(self) -> None:
        self.transactions.close()
        self._member.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    with MockCluster() as cluster:
        bench = Bench(cluster)
        yield bench
        bench.close()


@pytest.mark.parametrize(
    ("api", "error", "end"), TABLE, ids=[f"{api.name}-{error}" for api, error, _ in TABLE]
)
def test_every_error_leads_to_one_definite_end_and_the_next_transaction_is_possible(
    bench: Bench, api: Api, error: str, end: str
) -> None:
    bench.cluster.answer(api, error)
    assert bench.run() == end
    bench.cluster.answer_as_usual(api)
    # after a refused record the mock's sequence numbers need a new producer
    ends = [bench.run() for _ in range(3)]
    assert ends[-1] == COMMITTED
    if api is not Api.PRODUCE:
        assert ends[0] == COMMITTED


def test_a_commit_whose_outcome_is_not_known_is_repeated_and_reported_until_it_is(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction, "CALL_S", 0.4)
    made: list[object] = []
    make = EngineClients.producer

    def make_and_note(*arguments: Any) -> Producer:
        made.append(arguments)
        return make(*arguments)

    monkeypatch.setattr(EngineClients, "producer", make_and_note)

    def write(producer: Producer) -> None:
        producer.produce("t.events", b"event", partition=0)
        assert producer.flush(5) == 0

    ended: list[str] = []
    send = bench.transactions._repeat

    def repeat(what: str, call: Any) -> None:
        if "committed" in what:
            bench.cluster.set_down()
        send(what, call)

    monkeypatch.setattr(bench.transactions, "_repeat", repeat)
    thread = threading.Thread(target=lambda: ended.append(bench.run(write)))
    thread.start()
    wait_until(lambda: any("outcome is not known" in line for line in bench.said))
    assert "outcome is not known" in bench.status.waiting_for
    assert ended == []
    bench.cluster.set_up()
    thread.join(30)
    assert ended == [COMMITTED]
    assert made == [], "no other producer while the outcome is not known"
    assert bench.status.waiting_for == ""
    assert any("responds again" in line for line in bench.said)


def test_an_exception_of_write_aborts_and_the_producer_is_kept(bench: Bench) -> None:
    def write(producer: Producer) -> None:
        producer.produce("t.events", b"event", partition=0)
        raise OverflowError("a number of more than 64 bits")

    producer = bench.transactions._producer
    with pytest.raises(OverflowError):
        bench.run(write)
    assert bench.transactions._producer is producer
    assert bench.run() == COMMITTED


def test_a_record_larger_than_the_client_takes_is_too_large_and_costs_no_producer(bench: Bench) -> None:
    def write(producer: Producer) -> None:
        producer.produce("t.events", bytes(20 << 20), partition=0)

    producer = bench.transactions._producer
    assert bench.run(write) == TOO_LARGE
    assert bench.transactions._producer is producer
    assert bench.run() == COMMITTED


def test_the_spare_is_used_when_the_producer_is_fenced_and_replaced(bench: Bench) -> None:
    wait_until(lambda: bench.transactions._spare is not None)
    spare = bench.transactions._spare
    bench.cluster.answer(Api.END_TXN, "PRODUCER_FENCED")
    assert bench.run() == FENCED
    assert bench.transactions._producer is spare
    wait_until(lambda: bench.transactions._spare not in {None, spare})


def test_an_engine_that_is_fenced_again_and_again_stops_and_says_why(bench: Bench) -> None:
    for _ in range(transaction.FENCES - 1):
        bench.cluster.answer(Api.END_TXN, "PRODUCER_FENCED")
        assert bench.run() == FENCED
    bench.cluster.answer(Api.END_TXN, "PRODUCER_FENCED")
    with pytest.raises(InfrastructureError, match="its own instance name"):
        bench.run()


def test_a_transaction_on_the_broker_is_aborted_whole(namespace: Namespace) -> None:
    """Read with read_committed, an aborted batch was never there; done again, it is there once."""
    tally = namespace.tally()
    tally.until(lambda: len(tally.owned) == 4)
    namespace.send_numbers(40)
    real, failures = tally.log._writer.write, iter([True, True])

    def write(producer: Any, batch: Any) -> None:
        real(producer, batch)
        if next(failures, False):
            producer.flush(5)
            raise CommitAborted("on purpose")

    tally.log._writer.write = write  # type: ignore[method-assign]
    tally.until(lambda: tally.handled == 40)
    assert tally.aborted == 2
    assert len(namespace.read("events", isolation="read_uncommitted")) > len(namespace.read("events"))
    namespace.audit().assert_exactly_once()
