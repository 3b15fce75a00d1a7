"""Receives the tokens of attempts that must stop, which the engines send to every worker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from perdure.adapters.kafka.error_classes import error_of, in_words
from perdure.adapters.kafka.records import header_of
from perdure.codec.avro import CANCELLATIONS
from perdure.errors import UndecodableRecord
from perdure.threads import WatchedThread

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message

    from perdure.adapters.kafka.clients.plain import PlainClients
    from perdure.adapters.kafka.status import Status

REQUEST_TIMEOUT_S: Final = 5.0
RETRY_AFTER_S: Final = 1.0


class CancellationTail:
    """A thread that follows `<namespace>.cancellations` from its end, outside any group: every
    worker receives everything.

    A missed token does no harm: an attempt whose result is not wanted is cancelled by the reply to
    its next heartbeat.

    Args:
        clients: makes the consumer.
        cancel: takes tokens, of attempts of any worker; on this thread.
        status: shows what is wrong.

    Attributes:
        ready: set when every later token is received.
    """

    def __init__(
        self, clients: PlainClients, cancel: Callable[[Sequence[str]], None], status: Status
    ) -> None:
        self._clients = clients
        self._cancel = cancel
        self._status = status
        self.ready = threading.Event()
        self._stopping = threading.Event()
        self._thread = WatchedThread(target=self._run, name="perdure-cancellations")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Stop following. Idempotent."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        consumer = self._clients.tail(self._on_error)
        try:
            if self._go_to_end(consumer):
                while not self._stopping.is_set():
                    message = consumer.poll(0.2)
                    if message is not None:
                        self._take([message, *consumer.consume(500, 0)])
        finally:
            consumer.close()

    def _go_to_end(self, consumer: Consumer) -> bool:
        """Position at the topic's current end, so that nothing is missed before the first fetch."""
        topic = self._clients.topic("cancellations")
        while not self._stopping.is_set():
            try:
                found = consumer.list_topics(topic, timeout=REQUEST_TIMEOUT_S).topics[topic]
                if found.error is None and found.partitions:
                    ends = [TopicPartition(topic, each) for each in found.partitions]
                    for each in ends:
                        _, each.offset = consumer.get_watermark_offsets(each, timeout=REQUEST_TIMEOUT_S)
                    consumer.assign(ends)
                    self.ready.set()
                    return True
                self._on_error(
                    f"topic {topic} does not exist (perdure topics apply): attempts learn of cancellation "
                    "only by their heartbeats"
                )
            except KafkaException as exception:
                self._on_error(in_words(error_of(exception)))
            self._stopping.wait(RETRY_AFTER_S)
        return False

    def _take(self, messages: Sequence[Message]) -> None:
        tokens: list[str] = []
        for message in messages:
            if (error := message.error()) is not None:
                if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - how the client names its own errors
                    self._on_error(in_words(error))
                continue
            try:
                tokens += CANCELLATIONS.decode(message.value() or b"", header_of(message)).tokens
            except UndecodableRecord as fault:
                self._on_error(f"a cancellation cannot be read: {fault}")
        if tokens:
            self._cancel(tokens)

    def _on_error(self, message: str) -> None:
        self._status.trouble = message
