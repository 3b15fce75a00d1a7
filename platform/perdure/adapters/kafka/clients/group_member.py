"""One member of a consumer group, whichever topics it reads.

librdkafka calls the rebalance callbacks inside `poll`, `consume` and `close`, perhaps while a batch
is being collected. They assign, pause, note what happened and take the group's metadata of that
moment; the consumer's owner acts on the notes when it is ready.

Four rules of the protocol are kept here, and nowhere else:

- A partition is assigned first and paused then. A pause of a partition that is not assigned yet is
  accepted and does nothing.
- It is resumed first and sought then. The other way round it sometimes takes a second until the
  first record arrives.
- It is resumed even if this assignment was never paused. The client remembers a pause across a
  revocation, so that a partition that comes back is still paused.
- The group metadata that fences a transaction is that of the last rebalance, read inside its
  callback. Read at the commit, it may already be that of a generation in which the partitions
  belong to another member, whose commits it would not fence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from confluent_kafka import TopicPartition

from perdure.adapters.kafka.callbacks import as_raised
from perdure.adapters.kafka.clients.partition_state import (
    Assignment,
    Assignments,
    Noted,
    PartitionEvent,
    Place,
)

if TYPE_CHECKING:
    from confluent_kafka import Consumer


def ignore(_assignments: list[Assignment]) -> None:
    """The callback of members that look up their partitions when they need them."""


class GroupMember:
    """The partitions of one consumer. For the thread that polls it.

    Args:
        on_assigned: called inside the rebalance, after new partitions were assigned.
        on_revoked: called inside the rebalance, while the partitions are still ours: their offsets
            can be committed.
        on_lost: called when they belong to another member already; `on_revoked` by default.
        is_cooperative: only partitions that change hands are revoked; else all are, in each
            rebalance.
        is_paused_at_first: partitions come paused, until `begin` says from which offset to read
            them.
            False: they are read from their committed offsets immediately, and `on_assigned` has to
                resume or hold them.

    Attributes:
        metadata: the group's metadata of the last rebalance; None: this was not a member.
        partitions: the owned partitions, each in its state.
    """

    def __init__(
        self,
        *,
        on_assigned: Noted = ignore,
        on_revoked: Noted = ignore,
        on_lost: Noted | None = None,
        is_cooperative: bool = True,
        is_paused_at_first: bool = True,
    ) -> None:
        self.metadata: Any = None
        self.partitions = Assignments()
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._on_lost = on_lost or on_revoked
        self._is_cooperative = is_cooperative
        self._is_paused_at_first = is_paused_at_first
        self._consumer: Consumer | None = None

    # ---- joining and leaving

    def subscribe(self, consumer: Consumer, topics: Sequence[str]) -> None:
        """Join the group; partitions come while the consumer is polled."""
        self._consumer = consumer
        consumer.subscribe(
            list(topics),
            on_assign=as_raised(self._assign),
            on_revoke=as_raised(self._revoke),
            on_lost=as_raised(self._lose),
        )

    def adopt(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        """Read partitions without a group."""
        self._consumer = consumer
        self._assign(consumer, partitions)

    def forget(self) -> None:
        """The consumer is closed: forget all partitions. Idempotent."""
        self.partitions.end(list(self.partitions.owned), self._on_lost)
        self._consumer = None

    def refresh_metadata(self) -> None:
        """Take the group's metadata of this moment: inside a rebalance, or after an abort when no
        rebalance waits to be served.
        """
        consumer = self._joined
        try:
            metadata = consumer.consumer_group_metadata()
        except RuntimeError:
            # The client has none when it lost its member id between the rebalance and this
            # callback, or when it is being closed.
            self.metadata = None
            return
        # Asked afterwards: a member that was thrown out has no id, and a broker takes metadata
        # without one from anybody.
        self.metadata = metadata if consumer.memberid() else None

    # ---- partitions

    def begin(self, place: Place, offset: int) -> None:
        """Read a partition from this offset.

        Raises:
            KafkaException: the partition was just revoked.
        """
        self.resume([place])
        self.seek(place, offset)

    def seek(self, place: Place, offset: int) -> None:
        """Continue at this offset.

        Raises:
            KafkaException: the partition was just revoked.
        """
        self._joined.seek(TopicPartition(*place, offset))

    def resume(self, places: Iterable[Place]) -> None:
        """Read these where the client is."""
        if found := self._moved(places, PartitionEvent.RESUMED):
            self._joined.resume(found)

    def hold(self, places: Iterable[Place]) -> None:
        """Stop reading these until they are resumed."""
        if found := self._moved(places, PartitionEvent.HELD):
            self._joined.pause(found)

    def rewind(self, places: Iterable[Place]) -> None:
        """Stop reading these until `begin` gives an offset."""
        if found := self._moved(places, PartitionEvent.REWOUND):
            self._joined.pause(found)

    # ---- rebalances

    def _assign(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        """Called in every rebalance, also when there is nothing new."""
        if not self._is_cooperative:
            self.partitions.end(list(self.partitions.owned), self._on_revoked)
        if self._is_paused_at_first:
            # From offset 0: for the committed offset the client would wait, as long as a dead
            # owner's transaction holds it.
            partitions = [TopicPartition(each.topic, each.partition, 0) for each in partitions]
        if self._is_cooperative:
            consumer.incremental_assign(list(partitions))
        else:
            consumer.assign(list(partitions))
        if partitions and self._is_paused_at_first:
            consumer.pause([TopicPartition(each.topic, each.partition) for each in partitions])
        self.refresh_metadata()
        self._on_assigned([self.partitions.add((each.topic, each.partition)) for each in partitions])

    def _revoke(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self._drop(consumer, partitions, self._on_revoked)

    def _lose(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self._drop(consumer, partitions, self._on_lost)

    def _drop(self, consumer: Consumer, partitions: Sequence[TopicPartition], noted: Noted) -> None:
        if self._is_cooperative:
            self.partitions.end([(each.topic, each.partition) for each in partitions], noted)
            consumer.incremental_unassign(list(partitions))
        else:
            self.partitions.end(list(self.partitions.owned), noted)
            consumer.unassign()

    @property
    def _joined(self) -> Consumer:
        assert self._consumer is not None, "call subscribe() or adopt() first"
        return self._consumer

    def _moved(self, places: Iterable[Place], event: PartitionEvent) -> list[TopicPartition]:
        moved = list(places)
        for place in moved:
            self.partitions.note(place, event)
        return [TopicPartition(*place) for place in moved]
