"""Reading one side of a mirror and writing the other: `mirroring.py` says in which order."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from perdure.adapters.kafka.headers import headers_left
from perdure.adapters.kafka.padding import KEY

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message, Producer

Place = tuple[str, int]
"""Topic, with the namespace, and partition."""

REQUEST_TIMEOUT_S: Final = 10.0
WRITE_S: Final = 30.0
CONSUMED: Final = 2_000
PATIENCE_S: Final = 60.0
"""For the records of a partition up to its end: a transaction that is open ends, or is aborted by
the broker, within 45 s."""
_EOF: Final = KafkaError._PARTITION_EOF  # noqa: SLF001  so named by the client
_TIMED_OUT: Final = KafkaError._TIMED_OUT  # noqa: SLF001


class BoundedReader:
    """Committed records of some partitions, up to given ends and no further.

    Args:
        consumer: reads committed records and end offsets; closed with this.
        is_stopping: asked now and then.
    """

    def __init__(self, consumer: Consumer, is_stopping: Callable[[], bool]) -> None:
        self._consumer = consumer
        self._is_stopping = is_stopping
        self._assigned: dict[Place, int] = {}
        self._reached: dict[Place, int] = {}
        self._early: list[Message] = []

    def read_from(self, positions: Mapping[Place, int]) -> None:
        """Partitions, and the offset of the next record of each; again when there are more of
        them.
        """
        if positions.keys() == self._assigned.keys():
            return
        self._assigned = dict(positions)
        self._reached.clear()
        self._early.clear()
        self._consumer.assign(
            [TopicPartition(*place, offset or OFFSET_BEGINNING) for place, offset in positions.items()]
        )

    def until(self, ends: Mapping[Place, int], write: Callable[[list[Message]], None]) -> None:
        """Hand out everything before the ends.

        Args:
            ends: offsets after the last record; what transactions hold that are open by now is
                waited for.
            write: given records of several partitions, in their order.

        Raises:
            KafkaException: it was stopped, or the records do not come.
        """
        deadline = time.monotonic() + PATIENCE_S
        waiting, self._early = self._early, []
        while waiting or any(self._reached.get(place, -1) < end for place, end in ends.items()):
            if self._is_stopping() or time.monotonic() > deadline:
                raise KafkaException(KafkaError(_TIMED_OUT, "the source was not read to its end"))
            found = waiting or self._consumer.consume(CONSUMED, 0.2)
            waiting = []
            records: list[Message] = []
            for each in found:
                self._sort(each, ends, records)
            if records:
                write(records)

    def _sort(self, each: Message, ends: Mapping[Place, int], records: list[Message]) -> None:
        error, place, offset = each.error(), (each.topic() or "", each.partition() or 0), each.offset() or 0
        if error is not None and error.code() != _EOF:
            raise KafkaException(error)
        if error is None:
            (records if offset < ends[place] else self._early).append(each)
            offset += 1
        self._reached[place] = max(self._reached.get(place, -1), offset)


class ExactWriter:
    """Writes records at the offsets that they have in the source, with padding between.

    Args:
        producer: idempotent, not transactional: markers would take offsets.
        faults: what its deliveries met.
    """

    def __init__(self, producer: Producer, faults: list[KafkaError]) -> None:
        self._producer = producer
        self._faults = faults
        self.positions: dict[Place, int] = {}
        self.copied = self.padding = 0

    def write(self, records: list[Message]) -> None:
        """Write records; those that the mirror has already are skipped."""
        for each in records:
            place, offset = (each.topic() or "", each.partition() or 0), each.offset() or 0
            if offset >= self.positions[place]:
                self.pad(place, offset)
                produce(self._producer, each)
                self.positions[place] = offset + 1
                self.copied += 1

    def pad(self, place: Place, until: int) -> None:
        """Write padding up to this offset."""
        missing = max(0, until - self.positions[place])
        for _ in range(missing):
            _patiently(self._producer, lambda: self._producer.produce(place[0], None, KEY, place[1]))
        self.padding += missing
        self.positions[place] += missing

    def flush(self) -> None:
        """Wait until everything is in the mirror.

        Raises:
            KafkaException: it is not; the next session finds its position.
        """
        left = self._producer.flush(WRITE_S)
        if self._faults:
            raise KafkaException(self._faults[0])
        if left:
            raise KafkaException(KafkaError(_TIMED_OUT, f"{left} records were not accepted"))


class CopyWriter:
    """Writes records in transactions, each with the positions in the source.

    Args:
        producer: transactional, begun with `init_transactions`.
        positions_of: a consumer of the mirror's own group, in which the positions are kept.
        is_left_out: whether a record has no place in the mirror.
    """

    def __init__(
        self, producer: Producer, positions_of: Consumer, is_left_out: Callable[[Message], bool]
    ) -> None:
        self._producer = producer
        self._group: Any = positions_of.consumer_group_metadata()
        self._is_left_out = is_left_out
        self.copied = 0

    def write(self, records: list[Message]) -> None:
        """One transaction."""
        self._producer.begin_transaction()
        read: dict[Place, int] = {}
        for each in records:
            if not self._is_left_out(each):
                produce(self._producer, each)
                self.copied += 1
            read[each.topic() or "", each.partition() or 0] = (each.offset() or 0) + 1
        self._producer.send_offsets_to_transaction(
            [TopicPartition(*place, offset) for place, offset in read.items()], self._group, REQUEST_TIMEOUT_S
        )
        self._producer.commit_transaction(WRITE_S)


def produce(producer: Producer, record: Any) -> None:
    """Produce a record unchanged: partition, key, headers and time."""
    _patiently(
        producer,
        lambda: producer.produce(
            record.topic(),
            record.value(),
            record.key(),
            record.partition(),
            headers=cast(
                "Any", headers_left(record)
            ),  # without those that no client can read: the record is a dead letter there, as here
            timestamp=record.timestamp()[1],
        ),
    )


def _patiently(producer: Producer, put: Callable[[], None]) -> None:
    while True:
        try:
            put()
        except BufferError:
            producer.poll(0.1)
        else:
            producer.poll(0)
            return
