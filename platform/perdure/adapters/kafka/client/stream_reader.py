"""Reads the streams of a namespace: one consumer, which is where the last page ended."""

from __future__ import annotations

import time
from threading import Lock
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from perdure.adapters.kafka.clients.end_offsets import Ends
from perdure.adapters.kafka.error_classes import error_of, in_words
from perdure.adapters.kafka.namespace.partitioner import partition_of
from perdure.adapters.kafka.records import header_of
from perdure.codec.avro import STREAMS
from perdure.errors import InfrastructureError, UndecodableRecord
from perdure.model.streams import PAGE_BYTES, StreamPage

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Consumer, Message

    from perdure.adapters.kafka.clients.plain import PlainClients
    from perdure.model.streams import StreamRecord

WAIT_S: Final = 0.2
"""The longest wait of a page for a value."""
ASK_S: Final = 5.0
LOT: Final = 32
"""The number of records that are taken from the client at a time."""
KEPT: Final = 16
"""Consumers that wait for the next page of a stream."""

_Key = tuple[str, str]


class KafkaStreams:
    """Pages of streams. An offset is the Kafka offset, plus one, on the partition of the workflow
    id.

    Args:
        clients: makes consumers.
        began_at: when the current run of a workflow began, microseconds; 0: not known. Nothing
            before that is read.
    """

    def __init__(self, clients: PlainClients, began_at: Callable[[str], int]) -> None:
        self._clients = clients
        self._began_at = began_at
        self._topic = clients.topic("streams")
        self._ends = Ends(clients, self._topic, self._on_error)
        self._lock = Lock()
        self._partitions = 0
        self._trouble = ""
        self._free: dict[tuple[str, str, int], Consumer] = {}
        self._is_closed = False

    def stream(self, workflow_id: str, name: str, after: int, limit: int) -> StreamPage:
        """A page of a stream; waits a little for values.

        Raises:
            InfrastructureError: the broker does not answer, or there is no such topic.
        """
        try:
            consumer = self._taken(workflow_id, name, after)
            page = self._page(consumer, workflow_id, name, after, limit)
        except KafkaException as exception:
            raise InfrastructureError(
                f"streams cannot be read from {self._topic}: {in_words(error_of(exception))}"
            ) from exception
        self._put_back(consumer, (workflow_id, name, page.next))
        return page

    def close(self) -> None:
        """Close all consumers."""
        with self._lock:
            self._is_closed = True
            free, self._free = self._free, {}
        for consumer in free.values():
            consumer.close()

    def _page(self, consumer: Consumer, workflow_id: str, name: str, after: int, limit: int) -> StreamPage:
        values: list[tuple[int, StreamRecord]] = []
        following, until, size = after, time.monotonic() + WAIT_S, 0
        while not values and time.monotonic() < until:
            message = consumer.poll(max(0.0, until - time.monotonic()))
            if message is None:
                break
            lot, left = [message], limit - 1
            while lot:
                for each in lot:
                    if (error := each.error()) is not None:
                        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - how the client names its own errors
                            continue
                        raise KafkaException(error)
                    following = (each.offset() or 0) + 1
                    if (record := _record_of(each, workflow_id)) is not None and record.name == name:
                        values.append((following, record))
                        size += len(record.value)
                # in small lots: what is taken from the client cannot be given back
                lot = consumer.consume(min(LOT, left), 0) if left > 0 and size <= PAGE_BYTES else []
                left -= len(lot)
        return StreamPage(values, following)

    def _taken(self, workflow_id: str, name: str, after: int) -> Consumer:
        with self._lock:
            found = self._free.pop((workflow_id, name, after), None)
        if found is not None:
            return found
        self._partitions = self._partitions or self._ends.count()
        place = TopicPartition(self._topic, partition_of(workflow_id.encode(), self._partitions))
        consumer = self._clients.tail(self._on_error)
        low, high = consumer.get_watermark_offsets(place, timeout=ASK_S)
        place.offset = max(after, low)
        if not after and (began_at := self._began_at(workflow_id)):
            wanted = TopicPartition(place.topic, place.partition, began_at // 1_000)
            (at,) = consumer.offsets_for_times([wanted], timeout=ASK_S)
            place.offset = at.offset if at.offset >= 0 else high
        consumer.assign([place])
        return consumer

    def _put_back(self, consumer: Consumer, key: tuple[str, str, int]) -> None:
        with self._lock:
            if not self._is_closed and len(self._free) < KEPT and key not in self._free:
                self._free[key] = consumer
                return
            oldest = None
            if not self._is_closed:  # its reader has probably gone
                oldest = self._free.pop(next(iter(self._free)), None)
                self._free[key] = consumer
        if oldest is None or self._is_closed:
            (oldest or consumer).close()
        else:
            oldest.close()

    def _on_error(self, message: str) -> None:
        self._trouble = message


def _record_of(message: Message, workflow_id: str) -> StreamRecord | None:
    """The value of a stream of the workflow; None: it is another's, or another system wrote it."""
    if message.key() != workflow_id.encode():
        return None
    try:
        return STREAMS.decode(message.value() or b"", header_of(message))
    except UndecodableRecord:
        return None
