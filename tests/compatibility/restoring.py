"""Writes the topics that a release has left to a Kafka, in the way of `perdure topics mirror`."""

from __future__ import annotations

import uuid
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from perdure.adapters.kafka.admin.admin import Topics as TopicsOfNamespace
from perdure.adapters.kafka.admin.mirrored import ExactWriter, produce
from perdure.adapters.kafka.namespace.metadata import TOPICS as FACT_OF_TOPICS
from tests.compatibility.release import Record, Topic, Topics

FOR_EVER: Final = {"retention.ms": "-1", "message.timestamp.after.max.ms": str(2**63 - 1)}
"""Whatever the date is by which the broker goes, it takes the records and keeps them."""
EXACT: Final = ("commands", "tasks.")
"""Topics whose records keep their offsets: events and committed offsets name them."""
QUEUE: Final = "tasks."


class _Copy:
    """A record as a consumer of the old Kafka would have handed it out."""

    def __init__(self, topic: str, record: Record) -> None:
        self._topic = topic
        self._record = record

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return self._record.partition

    def offset(self) -> int:
        return self._record.offset

    def key(self) -> bytes | None:
        return self._record.key

    def value(self) -> bytes | None:
        return self._record.value

    def headers(self) -> list[tuple[str, bytes]]:
        return self._record.headers

    def timestamp(self) -> tuple[int, int]:
        return 1, self._record.timestamp


@contextmanager
def restored(bootstrap: str, topics: Topics) -> Generator[str]:
    """The namespace that the topics are restored to, under a fresh name. All of it is deleted at
    the end."""
    namespace = f"old{uuid.uuid4().hex[:8]}"
    admin: Any = AdminClient({"bootstrap.servers": bootstrap})
    named = {**{f"{namespace}.{part}": topic for part, topic in topics.own.items()}, **topics.others}
    new = {name: (len(each.ends), {**each.configuration, **FOR_EVER}) for name, each in named.items()}
    made_now = [NewTopic(name, count, config=config) for name, (count, config) in new.items()]
    for made in admin.create_topics(made_now).values():
        made.result(30)
    try:
        apply_present(namespace, bootstrap, topics)
        _copy(bootstrap, named)
        _commit(bootstrap, namespace, topics)
        yield namespace
    finally:
        rest = [name for name in admin.list_topics(timeout=30).topics if name.startswith(f"{namespace}.")]
        for deleted in admin.delete_topics([*rest, *topics.others]).values():
            deleted.result(30)


def apply_present(namespace: str, bootstrap: str, topics: Topics) -> None:
    """`perdure topics apply` at an upgrade: it accepts the topics of the old release, and adds its
    own."""
    present = TopicsOfNamespace(namespace, {"bootstrap.servers": bootstrap})
    queues = [part.removeprefix(QUEUE) for part in topics.own if part.startswith(QUEUE)]
    plan = present.plan(partitions=len(topics.own["commands"].ends), queues=queues)
    assert plan.faults == ()
    present.apply(plan)


def _copy(bootstrap: str, named: dict[str, Topic]) -> None:
    faults: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: object) -> None:
        if error is not None:
            faults.append(error)

    settings: dict[str, Any] = {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5}
    producer = Producer({**settings, "on_delivery": delivered})
    exact = ExactWriter(producer, faults)
    for name, topic in named.items():
        copies: Sequence[Any] = [_Copy(name, record) for record in topic.records]
        if name.partition(".")[2].startswith(EXACT):
            places = {(name, number): end for number, end in enumerate(topic.ends)}
            exact.positions |= dict.fromkeys(places, 0)
            written: list[Message] = list(copies)
            exact.write(written)
            for place, end in places.items():
                exact.pad(place, end)
        else:
            for copy in copies:
                if copy.key() != FACT_OF_TOPICS.encode():  # each Kafka has its own ids
                    produce(producer, copy)
    exact.flush()


def _commit(bootstrap: str, namespace: str, topics: Topics) -> None:
    """As the mirror does: which engine was the owner stays behind."""
    for group, parts in topics.committed.items():
        settings: dict[str, Any] = {"bootstrap.servers": bootstrap, "enable.auto.commit": False}
        consumer = Consumer({**settings, "group.id": f"{namespace}.{group}"})
        offsets = [
            TopicPartition(f"{namespace}.{part}", partition, offset)
            for part, partitions in parts.items()
            for partition, offset in partitions.items()
        ]
        try:
            consumer.commit(offsets=offsets, asynchronous=False)
        finally:
            consumer.close()
