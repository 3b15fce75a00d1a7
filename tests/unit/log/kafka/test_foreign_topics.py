"""Topics of other systems: the offsets they are read from, and repeated reads."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from perdure.adapters.kafka.clients import owner_fence as module
from perdure.adapters.kafka.ingest.trigger_source import TriggerSource
from perdure.adapters.kafka.status import Status
from tests.unit.log.kafka.stand_ins import Found

ORDERS, PAYMENTS = ("shop.orders", 0), ("shop.payments", 1)


class Topics:
    """A consumer of topics that begin at 10 and end at 20, on which `committed` was committed, by
    `owner`."""

    def __init__(self, committed: int = -1001, owner: str = "") -> None:
        self.committed_at = committed
        self.owner = owner
        self.is_pending = False
        self.id = "member"
        self.records: list[Any] = []
        self.paused: set[tuple[str, int]] = set()
        self.sought: list[tuple[str, int, int]] = []
        self.fenced: list[str] = []

    # ---- the clients

    transactional_id = "ns.ingest.me"

    def foreign_consumer(self, group: str, _told: Any) -> Any:
        assert group == "ns.ingest"
        return self

    def offsets(self, _told: Any, group: str) -> Any:
        assert group == "ns.ingest"

        def committed(wanted: list[TopicPartition], timeout: float) -> list[Any]:
            return [
                SimpleNamespace(topic=e.topic, partition=e.partition, metadata=self.owner, error=None)
                for e in wanted
            ]

        return SimpleNamespace(committed=committed, close=lambda: None)

    def producer(self, _told: Any, owner: str) -> Any:
        def fence(_timeout_s: float) -> None:
            self.fenced.append(owner)
            self.is_pending = False

        return SimpleNamespace(init_transactions=fence)

    # ---- the consumer

    def subscribe(self, *_: Any, **__: Any) -> None: ...

    def incremental_assign(self, _: Any) -> None: ...

    def incremental_unassign(self, _: Any) -> None: ...

    def close(self) -> None: ...

    def pause(self, places: list[TopicPartition]) -> None:
        self.paused.update((each.topic, each.partition) for each in places)

    def resume(self, places: list[TopicPartition]) -> None:
        self.paused.difference_update((each.topic, each.partition) for each in places)

    def seek(self, place: TopicPartition) -> None:
        self.sought.append((place.topic, place.partition, place.offset))

    def committed(self, wanted: list[TopicPartition], timeout: float) -> list[Any]:
        if self.is_pending:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return [
            SimpleNamespace(topic=e.topic, partition=e.partition, offset=self.committed_at, error=None)
            for e in wanted
        ]

    def get_watermark_offsets(
        self, _place: TopicPartition, _timeout_s: float = 0, cached: bool = False
    ) -> tuple[int, int]:
        return 10, 20

    def memberid(self) -> str:
        return self.id

    def consumer_group_metadata(self) -> str:
        return "metadata"

    def poll(self, _timeout_s: float) -> Any:
        return self.records.pop(0) if self.records else None

    def consume(self, limit: int, _timeout_s: float) -> list[Any]:
        taken, self.records = self.records[:limit], self.records[limit:]
        return taken


def joined(
    consumer: Topics, *places: tuple[str, int], begin: str = "earliest", said: list[str] | None = None
) -> TriggerSource:
    def report(message: str, /, **_where: str | int) -> None:
        if said is not None:
            said.append(message)

    made: Any = consumer
    topics = TriggerSource(
        made, ["shop.orders", "shop.payments"], "ns.ingest", begin=begin, status=Status(report)
    )
    topics.join()
    topics._member._assign(made, [TopicPartition(*each) for each in places])
    return topics


def offsets(records: list[Any]) -> list[tuple[str, int]]:
    return [(each.topic(), each.offset()) for each in records]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STUCK_AFTER_S", 0.01)


@pytest.mark.parametrize(("begin", "offset"), [("earliest", 10), ("latest", 20)])
def test_an_unread_partition_begins_where_the_operator_chose(begin: str, offset: int) -> None:
    consumer = Topics()
    topics = joined(consumer, ORDERS, begin=begin)
    assert consumer.paused == {ORDERS}, "until it is known from where on"
    topics.take(10, 0)
    assert consumer.sought == [(*ORDERS, offset)]
    assert (set(topics.owned), consumer.paused) == ({ORDERS}, set())


@pytest.mark.parametrize("begin", ["earliest", "latest"])
def test_a_partition_continues_at_the_committed_offset(begin: str) -> None:
    consumer = Topics(committed=15)
    joined(consumer, ORDERS, begin=begin).take(10, 0)
    assert consumer.sought == [(*ORDERS, 15)]


def test_records_deleted_before_they_were_taken_are_reported() -> None:
    consumer, said = Topics(committed=4), list[str]()
    joined(consumer, ORDERS, said=said).take(10, 0)
    assert consumer.sought == [(*ORDERS, 10)]
    assert len(said) == 1
    assert "from offset 4 to 10 were deleted" in said[0]


def test_records_are_taken_once_and_those_before_the_place_are_passed_over() -> None:
    consumer = Topics(committed=15)
    topics = joined(consumer, ORDERS)
    topics.take(10, 0)
    consumer.records = [Found(*ORDERS, offset) for offset in (14, 15, 16, 15)] + [Found(*PAYMENTS, 3)]
    assert offsets(topics.take(10, 0)) == [("shop.orders", 15), ("shop.orders", 16)]
    assert topics.lag() == {ORDERS: 3}, "17, 18 and 19 are left"


def test_what_a_batch_that_was_aborted_had_taken_is_read_again() -> None:
    consumer = Topics(committed=15)
    topics = joined(consumer, ORDERS)
    consumer.records = []
    topics.take(10, 0)
    consumer.records = [Found(*ORDERS, 15), Found(*ORDERS, 16)]
    topics.take(10, 0)
    topics.rewind({ORDERS: 15, PAYMENTS: 3})
    assert consumer.sought[1:] == [(*ORDERS, 15)], "a partition that has gone is another's to read"
    consumer.records = [Found(*ORDERS, 15)]
    assert offsets(topics.take(10, 0)) == [("shop.orders", 15)]


def test_a_held_partition_is_paused_and_reread_while_others_continue() -> None:
    consumer = Topics(committed=15)
    topics = joined(consumer, ORDERS, PAYMENTS)
    topics.take(10, 0)
    topics.hold(ORDERS, 16, 3_600)
    assert consumer.paused == {ORDERS}
    consumer.records = [Found(*ORDERS, 16), Found(*PAYMENTS, 15)]
    assert offsets(topics.take(10, 0)) == [("shop.payments", 15)]
    topics.rewind({ORDERS: 15})
    assert topics._next[ORDERS] == 15, "an abort meanwhile means an earlier place"
    topics._held_until[ORDERS] = 0.0
    topics.take(10, 0)
    assert (consumer.paused, consumer.sought[-1]) == (set(), (*ORDERS, 15))


def test_a_partition_that_goes_takes_along_what_was_just_read_of_it() -> None:
    consumer = Topics(committed=15)
    topics = joined(consumer, ORDERS, PAYMENTS)
    topics.take(10, 0)

    def revoke(limit: int, _timeout_s: float) -> list[Any]:
        topics._member._revoke(made, [TopicPartition(*ORDERS)])
        return [Found(*PAYMENTS, 15)]

    made: Any = consumer
    consumer.records = [Found(*ORDERS, 15)]
    made.consume = revoke
    assert offsets(topics.take(10, 0)) == [("shop.payments", 15)]
    assert set(topics.owned) == {PAYMENTS}


def test_offsets_are_committed_under_our_id() -> None:
    (offset,) = joined(Topics(), ORDERS).offsets({ORDERS: 17})
    assert (offset.topic, offset.partition, offset.offset, offset.metadata) == (*ORDERS, 17, "ns.ingest.me")


def test_an_owner_that_left_a_transaction_open_is_fenced_and_its_partition_read() -> None:
    consumer, said = Topics(committed=15, owner="ns.ingest.dead"), list[str]()
    consumer.is_pending = True
    joined(consumer, ORDERS, said=said).take(10, 0)
    assert (consumer.fenced, consumer.sought) == (["ns.ingest.dead"], [(*ORDERS, 15)])
    assert "ns.ingest.dead has left a transaction open" in said[0]


def test_without_a_member_id_nothing_is_committed_in_the_name_of_the_group() -> None:
    consumer = Topics()
    topics = joined(consumer, ORDERS)
    assert topics.metadata == "metadata"
    consumer.id = ""
    topics.refresh()
    assert topics.metadata is None
