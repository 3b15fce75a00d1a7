"""States and events for a projector: `ports.projection.Source` on a namespace's topics.

The projector decides where each partition continues, from its own tables; offsets are not committed
to Kafka.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from perdure.adapters.kafka.clients.end_offsets import Ends
from perdure.adapters.kafka.clients.group_member import GroupMember
from perdure.adapters.kafka.clients.partition_state import Assignment, Place
from perdure.adapters.kafka.error_classes import error_of, in_words
from perdure.adapters.kafka.projection.decoding import ProjectionDecoder
from perdure.adapters.kafka.records import header_of
from perdure.errors import InfrastructureError
from perdure.ports.projection import NotThereYet, Partition, ReadRecords, Topic, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from confluent_kafka import Consumer, Message

    from perdure.adapters.kafka.clients.plain import PlainClients

REQUEST_TIMEOUT_S: Final = 5.0
TOPICS: Final[tuple[Topic, ...]] = ("state", "events")
_EOF: Final = KafkaError._PARTITION_EOF  # noqa: SLF001 - how the client names its own errors
_RESET: Final = KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001
_REFUSALS: Final = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED})


class ProjectionSource:
    """Joins the projectors' group with the first `take`; or reads every partition, for a rebuild.

    Args:
        clients: makes the consumer.
        on_error: called with the current problem, as text.
        is_member: share the partitions with the other projectors.
    """

    def __init__(
        self, clients: PlainClients, on_error: Callable[[str], None], *, is_member: bool = True
    ) -> None:
        self._clients = clients
        self._on_error = on_error
        self._is_member = is_member
        self._topics: dict[str, Topic] = {clients.topic(part): part for part in TOPICS}
        self._state_ends = Ends(clients, clients.topic("state"), on_error)
        self._consumer: Consumer | None = None
        # All partitions are revoked in each rebalance: what a member has read of the states belongs
        # to its events of the same numbers.
        self._member = GroupMember(on_assigned=self._changed, on_revoked=self._changed, is_cooperative=False)
        self._read_to: dict[Partition, int] = {}
        self._reflected: dict[int, int] = {}
        self._barriers: dict[int, tuple[int, int]] = {}
        self._decoder = ProjectionDecoder(clients, on_error)

    @property
    def gained(self) -> Collection[Partition]:
        """Ours, and not read before `begin` says from where."""
        return frozenset(map(self._partition, self._member.partitions.assigned))

    @property
    def owned(self) -> Collection[Partition]:
        """Ours, and read."""
        return self._read_to.keys()

    def begin(self, offsets: Mapping[Partition, int]) -> None:
        """Read these from here on."""
        self._opened()
        for partition, offset in offsets.items():
            if (place := self._place(partition)) in self._member.partitions.assigned:
                self._read_to[partition] = offset
                self._member.begin(place, offset)

    def begin_again(self) -> None:
        """All that is owned is gained again."""
        self._member.rewind(list(self._member.partitions.live))
        self._forget()

    def take(self, limit: int, timeout_s: float) -> ReadRecords:
        """Take the next records."""
        consumer = self._opened()
        taken = ReadRecords()
        first = consumer.poll(timeout_s)
        if first is not None:
            for message in (first, *consumer.consume(limit, 0)):
                self._take(message, taken)
        self._read_to.update(taken.next_offsets)
        self._reflect(taken)
        return taken

    def end_of(self, partition: Partition) -> int:
        """The end of a partition, from the client's fetch state; no broker is asked."""
        try:
            _, high = self._opened().get_watermark_offsets(
                TopicPartition(*self._place(partition)), cached=True
            )
        except KafkaException:
            return -1
        return int(high)

    def decode(self, found: Unreadable) -> ReadRecords | None:
        """Try a record once more; its schema may be known by now."""
        taken = ReadRecords()
        self._decoder.put(
            found.topic,
            found.partition,
            found.offset,
            found.key,
            found.value,
            found.schema.encode() or None,
            taken,
        )
        return None if taken.unreadable else taken

    def close(self) -> None:
        """Leave the group. Idempotent."""
        self._state_ends.close()
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()
        self._member.forget()
        self._forget()

    # ---- partitions

    def _opened(self) -> Consumer:
        if self._consumer is None:
            consumer = self._clients.projection(self._on_error, is_member=self._is_member)
            found = {each: self._count(consumer, each) for each in self._topics}
            if self._is_member:
                self._member.subscribe(consumer, [*self._topics])
            else:
                everything = [
                    TopicPartition(topic, n) for topic, count in found.items() for n in range(count)
                ]
                self._member.adopt(consumer, everything)
            self._consumer = consumer
        return self._consumer

    def _count(self, consumer: Consumer, topic: str) -> int:
        try:
            found = consumer.list_topics(topic, timeout=REQUEST_TIMEOUT_S).topics[topic]
        except KafkaException as exception:
            consumer.close()
            raise NotThereYet(f"Kafka does not describe {topic}: {in_words(error_of(exception))}") from None
        if found.error is not None or not found.partitions:
            consumer.close()
            raise NotThereYet(
                f"topic {topic} does not exist: create it with `perdure topics apply`; check the namespace"
            )
        return len(found.partitions)

    def _changed(self, _assignments: list[Assignment]) -> None:
        self._forget()

    def _forget(self) -> None:
        self._read_to.clear()
        self._reflected.clear()
        self._barriers.clear()

    def _place(self, partition: Partition) -> Place:
        return self._clients.topic(partition[0]), partition[1]

    def _partition(self, place: Place) -> Partition:
        return self._topics[place[0]], place[1]

    # ---- records

    def _take(self, message: Message, taken: ReadRecords) -> None:
        error = message.error()
        topic, number, offset = (
            self._topics.get(message.topic() or ""),
            message.partition() or 0,
            message.offset() or 0,
        )
        if topic is None or (error is not None and error.code() not in {_EOF, _RESET}):
            if error is not None and error.code() in _REFUSALS:
                raise InfrastructureError(
                    f"Kafka denies reading {message.topic() or 'the topics'}: {error.str()}"
                )
            self._on_error(in_words(error) if error is not None else "")
            return
        partition = (topic, number)
        expected = taken.next_offsets.get(partition, self._read_to.get(partition))
        if expected is None:
            return
        if error is not None:
            if error.code() == _RESET:
                raise InfrastructureError(
                    f"{message.topic()}, partition {number}, does not continue at offset {expected}, the "
                    "tables' position: was it created again? "
                    "`perdure projector --rebuild` reads it from the beginning"
                )
            taken.next_offsets[partition] = max(offset, expected)
            return
        if offset < expected:
            return
        taken.next_offsets[partition] = offset + 1
        taken.count += 1
        self._decoder.put(
            topic,
            number,
            offset,
            cast("Any", message).key(),
            cast("Any", message).value(),
            header_of(message),
            taken,
        )

    def _reflect(self, taken: ReadRecords) -> None:
        """A place in the events counts as read once the states have been read to where they ended
        after it was reached.
        """
        wanted = [
            number
            for (topic, number), offset in self._read_to.items()
            if topic == "events" and number not in self._barriers and offset > self._reflected.get(number, -1)
        ]
        if wanted:
            try:
                ends = self._state_ends.of(wanted)
            except InfrastructureError:
                return  # `on_error` was called
            self._barriers.update(
                {number: (self._read_to["events", number], ends[number]) for number in wanted}
            )
        for number, (offset, end) in [*self._barriers.items()]:
            if self._read_to.get(("state", number), -1) >= end:
                del self._barriers[number]
                taken.reflected[number] = self._reflected[number] = offset
