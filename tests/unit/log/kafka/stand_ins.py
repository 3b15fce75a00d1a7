"""What stands for Kafka's client where only our own bookkeeping is looked at: records as they are
found, and a producer that keeps what it is given. What Kafka itself does with it is tested on real
brokers (tests/kafka).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from confluent_kafka import KafkaError, TopicPartition

from perdure.adapters.kafka.namespace.partitioner import partition_of
from perdure.codec.avro import HEADER

EOF = KafkaError(KafkaError._PARTITION_EOF)


class _Found:
    """A record, or an error in place of one."""

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        *,
        key: bytes | None = None,
        value: bytes | None = None,
        headers: list[tuple[str, bytes]] | None = None,
        error: KafkaError | None = None,
        at_ms: int = 1_700,
    ) -> None:
        self._fields = (topic, partition, offset, key, value, headers, error, (1, at_ms))

    def topic(self) -> str:
        return self._fields[0]

    def partition(self) -> int:
        return self._fields[1]

    def offset(self) -> int:
        return self._fields[2]

    def key(self) -> bytes | None:
        return self._fields[3]

    def value(self) -> bytes | None:
        return self._fields[4]

    def headers(self) -> list[tuple[str, bytes]] | None:
        return self._fields[5]

    def error(self) -> KafkaError | None:
        return self._fields[6]

    def timestamp(self) -> tuple[int, int]:
        return self._fields[7]

    def __len__(self) -> int:
        return len(self._fields[4] or b"")


class _Member:
    """A consumer in a group: it notes what it is asked for. A test calls the rebalance callbacks.

    Attributes:
        id: empty while it is no member.
        calls: by name, the partitions and offsets.
    """

    def __init__(self) -> None:
        self.id = "member"
        self.calls: list[tuple[str, list[tuple[int, int]]]] = []
        self.on_assign: Any = None
        self.on_revoke: Any = None
        self.on_lost: Any = None

    def subscribe(self, _topics: list[str], *, on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        self.on_assign, self.on_revoke, self.on_lost = on_assign, on_revoke, on_lost

    def __getattr__(self, name: str) -> Any:
        def note(given: list[TopicPartition] | TopicPartition | None = None) -> None:
            partitions = [given] if isinstance(given, TopicPartition) else given or []
            self.calls.append((name, [(each.partition, each.offset) for each in partitions]))

        return note

    def memberid(self) -> str:
        return self.id

    def consumer_group_metadata(self) -> str:
        return f"metadata of {self.id}"


Member: Any = _Member
"""It stands for `confluent_kafka.Consumer`."""

Found: Any = _Found
"""It stands for `confluent_kafka.Message`, which cannot be made with an offset."""


def schema(header: tuple[str, bytes]) -> list[tuple[str, bytes]]:
    """The headers of a record of ours."""
    assert header[0] == HEADER
    return [header]


@dataclass
class Sent:
    """One record that was produced."""

    topic: str
    value: Any
    key: Any
    partition: int
    headers: Any


@dataclass
class Recorder:
    """A producer: `faults` are what the delivery of each record in turn meets; None, or none left,
    is a success."""

    sent: list[Sent] = field(default_factory=list[Sent])
    faults: list[KafkaError | None] = field(default_factory=list["KafkaError | None"])
    waiting: list[Any] = field(default_factory=list[Any])
    offset: int = 100

    def produce(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        partition: int = -1,
        on_delivery: Any = None,
        *,
        headers: Any = None,
    ) -> None:
        self.sent.append(Sent(topic, value, key, partition, headers))
        self.offset += 1
        fault = self.faults.pop(0) if self.faults else None
        if on_delivery is not None:
            self.waiting.append((on_delivery, fault, Found(topic, partition, self.offset)))

    def flush(self, _timeout_s: float = 0) -> int:
        waiting, self.waiting = self.waiting, []
        for told, fault, message in waiting:
            told(fault, message)
        return 0

    def poll(self, _timeout_s: float = 0) -> int:
        return self.flush()

    def of(self, topic: str) -> list[Sent]:
        return [each for each in self.sent if each.topic == topic]


def layout(**counts: int) -> Any:
    """`Layout` of a namespace `ns` with four partitions; other topics as given, by the part after
    the namespace, `_` for a dot."""
    known = {f"ns.{part.replace('_', '.')}": count for part, count in counts.items()}
    known = {"ns.replies": 2, "ns.cancellations": 1} | known

    def place_of(workflow_id: str) -> int:
        return partition_of(workflow_id.encode(), 4)

    def tasks(queue: str) -> str:
        return f"ns.tasks.{queue}"

    def is_ours(topic: str) -> bool:
        return topic.startswith("ns.")

    def count_of(topic: str) -> int:
        return known.get(topic, 3 if topic.startswith("shop.") else 0)

    return SimpleNamespace(
        commands="ns.commands",
        events="ns.events",
        state="ns.state",
        replies="ns.replies",
        cancellations="ns.cancellations",
        dead_letters="ns.dead-letters",
        partitions=4,
        place_of=place_of,
        tasks=tasks,
        is_ours=is_ours,
        count_of=count_of,
    )
