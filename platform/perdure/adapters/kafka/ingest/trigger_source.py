"""Topics of others, shared with other processes of ours by a consumer group: which partitions are ours, and from where on (KAFKA.md 2 to 4).

The callbacks of a rebalance run inside the consumer's `poll` and `consume`, between two batches or while one is being collected. They assign, pause and write
down, and take the group's word of that moment: it is what fences a batch. Asked later, the group's word may be that of the time after a partition was lost, and
two processes would write the same record.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from perdure.adapters.kafka.engine.takeover import ASK_S, FENCE_S, PENDING, STUCK_S
from perdure.adapters.kafka.error_classes import error_of, in_words

if TYPE_CHECKING:
    from confluent_kafka import Consumer

    from perdure.adapters.kafka.clients.transactional import EngineClients
    from perdure.adapters.kafka.status import Status

Place = tuple[str, int]
"""A topic and a partition."""

LOOK_S: Final = 1.0
"""Topics that are missing are looked for so often, seconds."""


class ForeignTopics:
    """A member of a group. For one thread.

    Args:
        clients: makes Kafka clients.
        topics: to read.
        group: of the consumers that share them.
        begin: `earliest` or `latest`: where a partition begins that nobody of the group has read yet.
        status: told of waits.

    Attributes:
        metadata: of the group as it was in the last rebalance.
    """

    def __init__(self, clients: EngineClients, topics: Sequence[str], group: str, begin: str, status: Status) -> None:
        self.metadata: Any = None
        self._clients = clients
        self._topics = list(topics)
        self._group = group
        self._begin = begin
        self._status = status
        self._consumer: Consumer | None = None
        self._owners: Consumer | None = None
        self._fresh: set[Place] = set()
        self._next: dict[Place, int] = {}
        self._held: dict[Place, tuple[float, int]] = {}
        self._missing: set[str] = set()
        self._look_at = 0.0

    @property
    def owned(self) -> Collection[Place]:
        """Ours, and read."""
        return self._next.keys()

    def join(self) -> None:
        """Partitions come while `take` is called."""
        self._consumer = self._clients.stranger(self._group, self._troubled)
        self._consumer.subscribe(self._topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)

    def take(self, limit: int, timeout_s: float) -> list[Any]:
        """Records of partitions that are ours, those of each in their order.

        Args:
            limit: about so many.
            timeout_s: how long to wait for the first.
        """
        consumer = self._joined
        if self._fresh:
            self._begin_fresh(consumer)
        self._release(consumer)
        self._look(consumer)
        first = consumer.poll(timeout_s)
        if first is None:
            return []
        found: list[Any] = [first, *consumer.consume(limit, 0)]
        taken: list[Any] = []
        for record in found:
            if (error := record.error()) is not None:
                self._tell(record, error)
                continue
            place = (record.topic(), record.partition())
            expected = self._next.get(place)
            if expected is not None and record.offset() >= expected and place not in self._held:
                self._next[place] = record.offset() + 1
                taken.append(record)
        return [record for record in taken if (record.topic(), record.partition()) in self._next]

    def offsets(self, ends: Mapping[Place, int]) -> list[TopicPartition]:
        """What a transaction commits, with our id: whoever comes after us knows whom to fence."""
        return [
            TopicPartition(topic, number, end, metadata=self._clients.transactional_id) for (topic, number), end in ends.items()
        ]

    def rewind(self, firsts: Mapping[Place, int]) -> None:
        """Read again from there; partitions that have gone are read by whoever has them now."""
        for place, offset in firsts.items():
            if place in self._held:
                self._held[place] = (self._held[place][0], offset)
            elif place in self._next:
                self._seek(place, offset)

    def hold(self, place: Place, offset: int, seconds: float) -> None:
        """Read a partition again from there, and not before some time has passed; the others go on."""
        if place not in self._next:
            return
        self._joined.pause([TopicPartition(*place)])
        self._held[place] = (time.monotonic() + seconds, offset)

    def refresh(self) -> None:
        """After an abort: take the group's word of the moment, when we are a member and no rebalance is waiting to be told."""
        consumer = self._joined
        metadata = consumer.consumer_group_metadata()
        self.metadata = metadata if consumer.memberid() else None  # asked afterwards: without a member id it would fence nobody

    def lag(self) -> dict[Place, int]:
        """The records that are not taken yet, as far as the client knows without asking."""
        found: dict[Place, int] = {}
        for place, position in list(self._next.items()):
            try:
                _, high = self._joined.get_watermark_offsets(TopicPartition(*place), cached=True)
            except KafkaException:
                continue
            if high >= 0:
                found[place] = max(0, high - position)
        return found

    def close(self) -> None:
        """Leave the group; others take over at once. Idempotent."""
        for consumer in (self._consumer, self._owners):
            if consumer is not None:
                consumer.close()
        self._consumer = self._owners = self.metadata = None
        self._fresh.clear()
        self._next.clear()
        self._held.clear()

    # ---- whose they are

    @property
    def _joined(self) -> Consumer:
        assert self._consumer is not None, "join() comes first"
        return self._consumer

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Called in every rebalance, also when there is nothing new. Paused, until it is known from where on."""
        consumer.incremental_assign([TopicPartition(each.topic, each.partition, 0) for each in partitions])
        if partitions:
            consumer.pause([TopicPartition(each.topic, each.partition) for each in partitions])
        self._fresh.update((each.topic, each.partition) for each in partitions)
        metadata = consumer.consumer_group_metadata()
        self.metadata = metadata if consumer.memberid() else None

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_unassign(partitions)
        for each in partitions:
            place = (each.topic, each.partition)
            self._fresh.discard(place)
            self._next.pop(place, None)
            self._held.pop(place, None)

    def _begin_fresh(self, consumer: Consumer) -> None:
        places = sorted(self._fresh)
        try:
            offsets = self._offsets_of(consumer, places)
        except KafkaException as exception:
            self._status.waits(f"the offsets of {', '.join(sorted({topic for topic, _ in places}))}")
            self._troubled(in_words(error_of(exception)))
            return
        self._status.goes_on()
        for place, offset in offsets.items():
            self._fresh.discard(place)
            self._next[place] = offset
            self._resume(place, offset)

    def _offsets_of(self, consumer: Consumer, places: Sequence[Place]) -> dict[Place, int]:
        found: dict[Place, int] = {}
        for place, committed in self._stable_offsets(consumer, places).items():
            low, high = consumer.get_watermark_offsets(TopicPartition(*place), ASK_S)
            if committed < 0:
                found[place] = high if self._begin == "latest" else low
                continue
            if committed < low:
                topic, number = place
                self._status.report(
                    f"{topic}, partition {number}: the records from offset {committed} to {low} were deleted before anybody took them",
                    topic=topic,
                    partition=number,
                    offset=committed,
                )
            found[place] = max(committed, low)
        return found

    def _stable_offsets(self, consumer: Consumer, places: Sequence[Place]) -> dict[Place, int]:
        """The committed offsets, once no transaction is open on them: an owner that was killed within one does not end it."""
        try:
            return _committed(consumer, places, STUCK_S)
        except KafkaException as exception:
            if error_of(exception).code() not in PENDING:
                raise
        for owner in self._stuck(consumer, places):
            self._status.report(f"ingest {owner} has left a transaction open and does not end it: it is fenced")
            self._status.counts.owners_fenced += 1
            self._clients.producer(self._troubled, owner).init_transactions(FENCE_S)
        return _committed(consumer, places, ASK_S)

    def _stuck(self, consumer: Consumer, places: Sequence[Place]) -> set[str]:
        """Those whose transaction holds the offset of one of the partitions, by the id that they wrote with the one before."""
        if self._owners is None:
            self._owners = self._clients.offsets(self._troubled, self._group)
        found: list[Any] = self._owners.committed([TopicPartition(*place) for place in places], timeout=ASK_S)
        owners: set[str] = set()
        for each in found:
            if each.error is not None or each.metadata in {None, "", self._clients.transactional_id}:
                continue
            try:
                _committed(consumer, [(each.topic, each.partition)], STUCK_S / 3)
            except KafkaException:
                owners.add(each.metadata)
        return owners

    # ---- where we are

    def _resume(self, place: Place, offset: int) -> None:
        """Resumed first, then sought: the other way round it sometimes takes a second until the first record comes."""
        self._joined.resume([TopicPartition(*place)])
        self._seek(place, offset)

    def _seek(self, place: Place, offset: int) -> None:
        self._next[place] = offset
        try:
            self._joined.seek(TopicPartition(*place, offset))
        except KafkaException as exception:  # it has just gone
            self._troubled(in_words(error_of(exception)))

    def _release(self, consumer: Consumer) -> None:
        now = time.monotonic()
        for place, (until, offset) in list(self._held.items()):
            if now >= until:
                del self._held[place]
                self._resume(place, offset)

    # ---- what is wrong

    def _tell(self, record: Any, error: KafkaError) -> None:
        if error.code() in {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED} and record.topic():
            self._missing.add(record.topic())
        else:
            self._troubled(in_words(error))

    def _look(self, consumer: Consumer) -> None:
        """For topics that are missing; the others are read meanwhile."""
        now = time.monotonic()
        if not self._missing or now < self._look_at:
            return
        self._look_at = now + LOOK_S
        for topic in sorted(self._missing):
            try:
                found = consumer.list_topics(topic, timeout=LOOK_S).topics[topic]
            except KafkaException as exception:
                self._troubled(in_words(error_of(exception)))
                return
            if found.error is None:
                self._missing.discard(topic)
            else:
                self._troubled(in_words(found.error))
        if self._missing:
            self._status.waits(f"the topic{'s' if len(self._missing) > 1 else ''} {', '.join(sorted(self._missing))}")
        else:
            self._status.goes_on()

    def _troubled(self, message: str) -> None:
        self._status.trouble = message


def _committed(consumer: Consumer, places: Sequence[Place], timeout_s: float) -> dict[Place, int]:
    """Repeated to the deadline; an error never means that the offsets have not moved."""
    deadline = time.monotonic() + timeout_s
    while True:
        left_s = deadline - time.monotonic()
        try:
            found: list[Any] = consumer.committed([TopicPartition(*place) for place in places], timeout=max(0.05, left_s))
        except KafkaException:
            if left_s <= 0:
                raise
        else:
            errors = [each.error for each in found if each.error is not None]
            if not errors:
                return {(each.topic, each.partition): max(each.offset, -1) for each in found}
            if left_s <= 0:
                raise KafkaException(errors[0])
        time.sleep(0.02)
