"""The replies to one caller: a partition of `<namespace>.replies` that it tails, from its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from random import randrange
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from perdure.adapters.kafka.error_classes import error_of, in_words
from perdure.adapters.kafka.records import header_of
from perdure.codec.avro import REPLIES
from perdure.errors import InfrastructureError, UndecodableRecord
from perdure.model.addresses import Caller
from perdure.threads import WatchedThread

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message

    from perdure.adapters.kafka.clients.plain import PlainClients
    from perdure.model.replies import AnyReply

REQUEST_TIMEOUT_S: Final = 5.0
RETRY_AFTER_S: Final = 0.5
MISSING_S: Final = 5.0
"""A topic that still does not exist after this time is an error: it may be being made just now,
seconds."""


class ReplyConsumer:
    """A thread that receives the replies to its own address.

    Args:
        clients: makes the consumer.
        deliver: takes replies, those of one fetch at a time; on this thread.
        on_trouble: receives descriptions of current trouble.

    Attributes:
        address: resolved when replies to it are received; fails if there is no such topic.
    """

    def __init__(
        self,
        clients: PlainClients,
        deliver: Callable[[Sequence[AnyReply]], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        self.address: Future[str] = Future()
        self._clients = clients
        self._deliver = deliver
        self._on_trouble = on_trouble
        self._key = b""
        self._stopping = threading.Event()
        self._thread = WatchedThread(target=self._run, name="perdure-replies")
        self._thread.start()

    @property
    def has_failed(self) -> bool:
        """Whether no replies will be received any more."""
        return self.address.done() and not self.address.cancelled() and self.address.exception() is not None

    def close(self) -> None:
        """Stop receiving. Idempotent."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        self._clients.framing.load_or_tell(self._on_trouble)  # here, since callers wait for the address
        consumer = self._clients.tail(self._on_trouble)
        try:
            self._open(consumer)
            while not self._stopping.is_set():
                message = consumer.poll(0.1)
                if message is not None:
                    self._take([message, *consumer.consume(1_000, 0)])
        except InfrastructureError as error:
            self.address.set_exception(error)
        finally:
            consumer.close()
            self.address.cancel()

    def _open(self, consumer: Consumer) -> None:
        topic = self._clients.topic("replies")
        since = time.monotonic()
        while not self._stopping.is_set():
            try:
                found = consumer.list_topics(topic, timeout=REQUEST_TIMEOUT_S).topics[topic]
                if found.error is None and found.partitions:
                    place = TopicPartition(topic, randrange(len(found.partitions)))
                    _, place.offset = consumer.get_watermark_offsets(place, timeout=REQUEST_TIMEOUT_S)
                    consumer.assign([place])
                    address = str(Caller(place.partition, uuid4().hex))
                    self._key = address.encode()
                    self.address.set_result(address)
                    return
                if time.monotonic() - since > MISSING_S:
                    raise InfrastructureError(_missing(topic))
                self._on_trouble(_missing(topic))
            except KafkaException as exception:
                self._on_trouble(in_words(error_of(exception)))
                since = time.monotonic()
            self._stopping.wait(RETRY_AFTER_S)

    def _take(self, messages: Sequence[Message]) -> None:
        replies: list[AnyReply] = []
        for message in messages:
            if (error := message.error()) is not None:
                if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - how the client names its own errors
                    self._on_trouble(in_words(error))
            elif message.key() == self._key:
                try:
                    replies.append(REPLIES.decode(message.value() or b"", header_of(message)))
                except UndecodableRecord as fault:
                    self._on_trouble(f"a reply cannot be read: {fault}")
        if replies:
            self._deliver(replies)


def _missing(topic: str) -> str:
    return f"topic {topic} does not exist: create it with `perdure topics apply`; check the namespace"
