"""Partitions come and go: what the group tells, as it tells it; nothing is done about it here (KAFKA.md 4).

The callbacks run inside the consumer's `poll` and `consume`, perhaps while a batch is open. They assign, pause and write down; the
log reads what was written down when no batch is open.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from confluent_kafka import TopicPartition

if TYPE_CHECKING:
    from confluent_kafka import Consumer


class Membership:
    """What a member of the group knows of its partitions.

    A partition is restoring from when it is assigned until the log says that it is `live`.

    Args:
        topic: of commands.

    Attributes:
        live: ours, and served. A commit that concerns any other partition is aborted.
        restoring: assigned, by generation; a restore of another generation is stale.
        gone: were live; the engine and the store do not know yet.
        dropped: were restoring; the takeover does not know yet.
        fresh: assigned; the takeover does not know yet.
        metadata: of the group as it was in the last rebalance. It is what fences a batch: the group's word of the moment may
            already be that of the time after we lost the partitions.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._generation = 0
        self.live: set[int] = set()
        self.restoring: dict[int, int] = {}
        self.gone: set[int] = set()
        self.dropped: list[tuple[int, int]] = []
        self.fresh: list[tuple[int, int]] = []
        self.metadata: Any = None

    def subscribe(self, consumer: Consumer) -> None:
        """Join the group."""
        consumer.subscribe([self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)

    @property
    def has_news(self) -> bool:
        """Whether anything is written down that the others do not know yet."""
        return bool(self.gone or self.dropped or self.fresh)

    def refresh(self, consumer: Consumer) -> None:
        """Take the group's word of the moment: within a rebalance, or after an abort when no rebalance is waiting to be told."""
        metadata = consumer.consumer_group_metadata()
        self.metadata = metadata if consumer.memberid() else None  # asked afterwards: without a member id it would fence nobody

    def serve(self, consumer: Consumer, partition: int, offset: int) -> None:
        """A restored partition is live, from this offset.

        Resumed first, then sought: the other way round it sometimes takes a second until the first record comes.
        """
        del self.restoring[partition]
        self.live.add(partition)
        consumer.resume([TopicPartition(self._topic, partition)])
        consumer.seek(TopicPartition(self._topic, partition, offset))

    def forget(self) -> None:
        """The consumer is closed."""
        self._drop(self.live | self.restoring.keys())

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Called in every rebalance, also when there is nothing new."""
        numbers = [each.partition for each in partitions]
        consumer.incremental_assign([TopicPartition(self._topic, number, 0) for number in numbers])
        if numbers:
            consumer.pause([TopicPartition(self._topic, number) for number in numbers])
        self.refresh(consumer)
        for number in numbers:
            self._generation += 1
            self.restoring[number] = self._generation
            self.fresh.append((number, self._generation))

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_unassign(partitions)
        self._drop(each.partition for each in partitions)

    def _drop(self, partitions: Collection[int] | Any) -> None:
        for number in list(partitions):
            if number in self.live:
                self.live.discard(number)
                self.gone.add(number)
            elif number in self.restoring:
                self.dropped.append((number, self.restoring.pop(number)))
