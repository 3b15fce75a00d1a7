"""The engine's membership in its consumer group. It notes the changes of a rebalance, for the
engine and the takeover to read between two batches.

The callbacks run inside the consumer's `poll` and `consume`, perhaps while a batch is open. Their
notes are read when no batch is open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from perdure.adapters.kafka.clients.group_member import GroupMember
from perdure.adapters.kafka.clients.partition_state import Assignment, PartitionEvent, PartitionState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from confluent_kafka import Consumer

Generation: TypeAlias = tuple[int, int]
"""A partition's number, and which assignment of it."""

_AT_THE_TAKEOVER: Final = frozenset({PartitionState.RESTORING, PartitionState.RESTORED})


class Membership:
    """The partitions of an engine, by number.

    Args:
        topic: of commands.

    Attributes:
        member: in the group.
        live: the served partitions. A commit that concerns any other partition is aborted.
        gone: formerly live partitions whose loss the engine and the store do not know yet.
    """

    def __init__(self, topic: str) -> None:
        self.member = GroupMember(on_revoked=self._revoked)
        self.live: set[int] = set()
        self.gone: set[int] = set()
        self._topic = topic
        self._dropped: list[Generation] = []

    def subscribe(self, consumer: Consumer) -> None:
        """Join the group."""
        self.member.subscribe(consumer, [self._topic])

    def forget(self) -> None:
        """The consumer is closed."""
        self.member.forget()

    @property
    def metadata(self) -> Any:
        """Of the group as it was in the last rebalance: it fences a batch. None: this engine is no
        member.
        """
        return self.member.metadata

    @property
    def has_news(self) -> bool:
        """Whether a rebalance changed something that the engine or the takeover does not know
        yet.
        """
        return bool(self.member.partitions.assigned or self.gone or self._dropped)

    def take_gone(self) -> set[int]:
        """Remove and return the partitions that were live and were lost."""
        gone, self.gone = self.gone, set[int]()
        return gone

    def hand_over(self) -> tuple[list[Generation], list[Generation]]:
        """For the takeover: partitions to drop, and partitions to restore."""
        dropped, self._dropped = self._dropped, list[Generation]()
        fresh = self.member.partitions.in_state(PartitionState.ASSIGNED)
        for place in fresh:
            self.member.partitions.note(place, PartitionEvent.HANDED_OVER)
        return dropped, [(place[1], self.member.partitions.generation_of(place)) for place in fresh]

    def is_restored(self, partition: int, generation: int) -> bool:
        """Whether the partition waits to be claimed, as it was assigned in this generation."""
        place = (self._topic, partition)
        return (
            self.member.partitions.generation_of(place) == generation
            and self.member.partitions.state_of(place) is PartitionState.RESTORED
        )

    def note_restored(self, restored: Iterable[Generation]) -> None:
        """The takeover has restored these. A restore for an earlier generation is stale, and
        ignored.
        """
        for partition, generation in restored:
            place = (self._topic, partition)
            if self.member.partitions.generation_of(place) == generation:
                self.member.partitions.note(place, PartitionEvent.RESTORED)

    def serve(self, partition: int, offset: int) -> None:
        """A partition that was claimed is live, from this offset."""
        self.member.begin((self._topic, partition), offset)
        self.live.add(partition)

    def _revoked(self, assignments: list[Assignment]) -> None:
        for each in assignments:
            _, partition = each.place
            if each.state is PartitionState.LIVE:
                self.live.discard(partition)
                self.gone.add(partition)
            elif each.state in _AT_THE_TAKEOVER:
                self._dropped.append((partition, each.generation))
            # A partition that was only assigned is not known elsewhere: handing it over would
            # restore it for nothing.
