"""The topics of other systems, shared with other ingest processes by a consumer group: this
process's partitions and their offsets.

A record is written as a command in one transaction with the offset after it. What fences that
transaction is the group metadata of the last rebalance (`group_member.py`): else two processes
would write the same record.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from perdure.adapters.kafka.clients.group_member import GroupMember
from perdure.adapters.kafka.clients.owner_fence import REQUEST_TIMEOUT_S, OwnerFence
from perdure.adapters.kafka.clients.partition_state import Assignment, Place
from perdure.adapters.kafka.error_classes import error_of, in_words

if TYPE_CHECKING:
    from confluent_kafka import Consumer

    from perdure.adapters.kafka.clients.transactional import EngineClients
    from perdure.adapters.kafka.status import Status

POLL_INTERVAL_S: Final = 1.0
"""Topics that are missing are looked for this often, seconds."""


class TriggerSource:
    """A member of a group. For one thread.

    Args:
        clients: makes Kafka clients.
        topics: to read.
        group: of the consumers that share them.
        begin: `earliest` or `latest`: where to start a partition without committed offsets.
        status: shows what is waited for.
    """

    def __init__(
        self, clients: EngineClients, topics: Sequence[str], group: str, *, begin: str, status: Status
    ) -> None:
        self._clients = clients
        self._topics = list(topics)
        self._group = group
        self._begin = begin
        self._status = status
        self._member = GroupMember(on_revoked=self._revoked)
        self._fence = OwnerFence(clients, status, group, role="ingest")
        self._consumer: Consumer | None = None
        self._next: dict[Place, int] = {}
        self._held_until: dict[Place, float] = {}
        self._missing = MissingTopics(status)

    @property
    def metadata(self) -> Any:
        """Of the group as it was in the last rebalance; None: we were no member."""
        return self._member.metadata

    @property
    def owned(self) -> Collection[Place]:
        """Ours, and read."""
        return self._next.keys()

    def join(self) -> None:
        """Partitions come while `take` is called."""
        self._consumer = self._clients.foreign_consumer(self._group, self._on_error)
        self._member.subscribe(self._consumer, self._topics)

    def take(self, limit: int, timeout_s: float) -> list[Any]:
        """Records of partitions that are ours, those of each in their order.

        Args:
            limit: the approximate number.
            timeout_s: how long to wait for the first.
        """
        consumer = self._joined
        if self._member.partitions.assigned:
            self._begin_assigned(consumer)
        if self._held_until:
            self._resume_held()
        self._missing.look(consumer)
        first = consumer.poll(timeout_s)
        if first is None:
            return []
        found: list[Any] = [first, *consumer.consume(limit, 0)]
        taken: list[Any] = []
        live = self._member.partitions.live
        for record in found:
            if (error := record.error()) is not None:
                self._note_error(record, error)
                continue
            place = (record.topic(), record.partition())
            if place in live and record.offset() >= self._next[place]:
                self._next[place] = record.offset() + 1
                taken.append(record)
        return taken

    def offsets(self, ends: Mapping[Place, int]) -> list[TopicPartition]:
        """The offsets that a transaction commits, with our id, so that the next owner knows whom to
        fence.
        """
        return [
            TopicPartition(topic, number, end, metadata=self._clients.transactional_id)
            for (topic, number), end in ends.items()
        ]

    def rewind(self, firsts: Mapping[Place, int]) -> None:
        """Read again from these offsets; revoked partitions are read by their new owner."""
        for place, offset in firsts.items():
            if place in self._next:
                self._next[place] = offset
            if place in self._member.partitions.live:
                self._guarded_seek(place, offset)

    def hold(self, place: Place, offset: int, seconds: float) -> None:
        """Read a partition again from this offset, after a delay; the others continue."""
        if place not in self._member.partitions.live:
            return
        self._member.hold([place])
        self._next[place] = offset
        self._held_until[place] = time.monotonic() + seconds

    def refresh(self) -> None:
        """After an abort: take the group's metadata of the moment, when we are a member and no
        rebalance waits to be served.
        """
        self._member.refresh_metadata()

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
        """Leave the group; others take over immediately. Idempotent."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()
        self._fence.close()
        self._member.forget()

    # ---- ownership

    @property
    def _joined(self) -> Consumer:
        assert self._consumer is not None, "join() comes first"
        return self._consumer

    def _revoked(self, assignments: list[Assignment]) -> None:
        for each in assignments:
            self._next.pop(each.place, None)
            self._held_until.pop(each.place, None)

    def _begin_assigned(self, consumer: Consumer) -> None:
        places = sorted(self._member.partitions.assigned)
        try:
            offsets = self._offsets_of(consumer, places)
        except KafkaException as exception:
            self._status.waits(f"the offsets of {', '.join(sorted({topic for topic, _ in places}))}")
            self._on_error(in_words(error_of(exception)))
            return
        self._status.clear_wait()
        for place, offset in offsets.items():
            self._next[place] = offset
            self._member.resume([place])
            self._guarded_seek(place, offset)

    def _offsets_of(self, consumer: Consumer, places: Sequence[Place]) -> dict[Place, int]:
        found: dict[Place, int] = {}
        for place, committed in self._fence.stable_offsets(consumer, places).items():
            low, high = consumer.get_watermark_offsets(TopicPartition(*place), REQUEST_TIMEOUT_S)
            if committed < 0:
                found[place] = high if self._begin == "latest" else low
                continue
            if committed < low:
                topic, number = place
                self._status.report(
                    f"{topic}, partition {number}: the records from offset {committed} to {low} were "
                    "deleted before they were processed",
                    topic=topic,
                    partition=number,
                    offset=committed,
                )
            found[place] = max(committed, low)
        return found

    # ---- positions

    def _guarded_seek(self, place: Place, offset: int) -> None:
        try:
            self._member.seek(place, offset)
        except KafkaException as exception:  # It has just gone; the next poll says so.
            self._on_error(in_words(error_of(exception)))

    def _resume_held(self) -> None:
        now = time.monotonic()
        for place, until in list(self._held_until.items()):
            if now >= until:
                del self._held_until[place]
                self._member.resume([place])
                self._guarded_seek(place, self._next[place])

    # ---- errors

    def _note_error(self, record: Any, error: KafkaError) -> None:
        if error.code() in _ABSENT and record.topic():
            self._missing.add(record.topic())
        else:
            self._on_error(in_words(error))

    def _on_error(self, message: str) -> None:
        self._status.trouble = message


_ABSENT: Final = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED})


class MissingTopics:
    """Topics that do not exist, or may not be read. They are looked for now and then, while the
    others are read.

    Args:
        status: shows the topics that are waited for.
    """

    def __init__(self, status: Status) -> None:
        self._status = status
        self._names: set[str] = set()
        self._look_at = 0.0

    def add(self, topic: str) -> None:
        """A consumer found that it is missing."""
        self._names.add(topic)

    def look(self, consumer: Consumer) -> None:
        """Check whether they exist now, if the last check is long enough ago."""
        now = time.monotonic()
        if not self._names or now < self._look_at:
            return
        self._look_at = now + POLL_INTERVAL_S
        for topic in sorted(self._names):
            try:
                found = consumer.list_topics(topic, timeout=POLL_INTERVAL_S).topics[topic]
            except KafkaException as exception:
                self._status.trouble = in_words(error_of(exception))
                return
            if found.error is None:
                self._names.discard(topic)
            else:
                self._status.trouble = in_words(found.error)
        if self._names:
            self._status.waits(
                f"the topic{'s' if len(self._names) > 1 else ''} {', '.join(sorted(self._names))}"
            )
        else:
            self._status.clear_wait()
