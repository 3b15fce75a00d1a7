"""End offsets of a topic."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Final

from confluent_kafka import OFFSET_END, KafkaException, TopicPartition

from perdure.adapters.kafka.error_classes import error_of, in_words
from perdure.errors import InfrastructureError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from confluent_kafka import Consumer

    from perdure.adapters.kafka.clients.plain import PlainClients

REQUEST_TIMEOUT_S: Final = 5.0


class Ends:
    """Asks the broker for end offsets; thread-safe. READ_UNCOMMITTED: a record may be counted a
    moment before it is visible.

    Of a consumer (0.3 ms), since the admin client's `list_offsets` takes seconds now and then.

    Args:
        clients: makes the consumer.
        topic: its name.
        troubled: receives descriptions of current trouble.
    """

    def __init__(self, clients: PlainClients, topic: str, on_trouble: Callable[[str], None]) -> None:
        self._clients = clients
        self._topic = topic
        self._on_trouble = on_trouble
        self._lock = Lock()
        self._consumer: Consumer | None = None

    def of(self, partitions: Collection[int]) -> dict[int, int]:
        """The offset after the last record, by partition.

        Raises:
            InfrastructureError: the broker does not say.
        """
        with self._lock:
            consumer = self._opened()
            try:
                wanted = [TopicPartition(self._topic, each, OFFSET_END) for each in partitions]
                return {
                    each.partition: each.offset
                    for each in consumer.offsets_for_times(wanted, timeout=REQUEST_TIMEOUT_S)
                }
            except KafkaException as error:
                raise self._unknown(error) from None

    def count(self) -> int:
        """Number of partitions of the topic.

        Raises:
            InfrastructureError: the broker does not say, or there is no such topic.
        """
        with self._lock:
            try:
                found = self._opened().list_topics(self._topic, timeout=REQUEST_TIMEOUT_S).topics[self._topic]
            except KafkaException as error:
                raise self._unknown(error) from None
        if found.error is not None or not found.partitions:
            raise InfrastructureError(
                f"topic {self._topic} does not exist: create it with `perdure topics apply`; check the "
                "namespace"
            )
        return len(found.partitions)

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            consumer, self._consumer = self._consumer, None
            if consumer is not None:
                consumer.close()

    def _opened(self) -> Consumer:
        self._consumer = self._consumer or self._clients.tail(self._on_trouble, isolation="read_uncommitted")
        return self._consumer

    def _unknown(self, exception: KafkaException) -> InfrastructureError:
        said = in_words(error_of(exception))
        self._on_trouble(said)
        return InfrastructureError(
            f"Kafka at {self._clients.settings.get('bootstrap.servers')} does not report the end of "
            f"{self._topic} ({said}): check that it "
            "runs and is reachable"
        )
