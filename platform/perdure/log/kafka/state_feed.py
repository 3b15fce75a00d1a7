"""Tells of every state that is written to `<namespace>.state`, as it is committed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from confluent_kafka import OFFSET_END, KafkaError, KafkaException, TopicPartition

from perdure.codec.avro import STATE
from perdure.errors import UndecodableRecord
from perdure.log.kafka.records import header_of
from perdure.log.kafka.verdict import error_of, in_words

if TYPE_CHECKING:
    from perdure.log.kafka.plain_clients import PlainClients
    from perdure.model.states import WorkflowState

Change = tuple[str, "WorkflowState | None"]
WAIT_MS = 20


class StateFeed:
    """Follows the topic from where it ends, in a thread of its own, as no member of any group. Belongs to the loop that starts it.

    Args:
        clients: makes the consumer.
    """

    def __init__(self, clients: PlainClients) -> None:
        self._clients = clients
        self._topic = clients.topic("state")
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.trouble = ""

    def start(self, listener: Callable[[Sequence[Change]], None]) -> None:
        """Tell the listener, on this loop, of every change from now on."""
        loop = asyncio.get_running_loop()

        def tell(changes: list[Change]) -> None:
            if not self._stopping.is_set():
                loop.call_soon_threadsafe(listener, changes)

        self._thread = threading.Thread(target=self._run, args=(tell,), name="perdure-state-feed", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Follow no longer. Idempotent."""
        self._stopping.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _run(self, tell: Callable[[list[Change]], None]) -> None:
        consumer = self._clients.tail(self._troubled, WAIT_MS)
        try:
            while not self._stopping.is_set() and not self._assign(consumer):
                self._stopping.wait(1.0)
            while not self._stopping.is_set():
                message = consumer.poll(0.1)
                if message is None:
                    continue
                changes = [each for found in (message, *consumer.consume(5_000, 0)) if (each := self._change(found)) is not None]
                if changes:
                    tell(changes)
        finally:
            consumer.close()

    def _assign(self, consumer: Any) -> bool:
        try:
            found = consumer.list_topics(self._topic, timeout=5.0).topics[self._topic]
        except KafkaException as exception:
            self._troubled(in_words(error_of(exception)))
            return False
        if found.error is not None or not found.partitions:
            self._troubled(f"topic {self._topic} does not exist: `perdure topics apply` makes it")
            return False
        consumer.assign([TopicPartition(self._topic, partition, OFFSET_END) for partition in found.partitions])
        return True

    def _change(self, message: Any) -> Change | None:
        error = message.error()
        if error is not None:
            if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - how the client names its own errors
                self._troubled(in_words(error))
            return None
        key, value = message.key(), message.value()
        if key is None:
            return None
        workflow_id = key.decode(errors="replace")
        if value is None:
            return workflow_id, None
        try:
            return workflow_id, STATE.decode(value, header_of(message))
        except UndecodableRecord as fault:
            self._troubled(f"the state of {workflow_id!r} cannot be read: {fault}")
            return None

    def _troubled(self, message: str) -> None:
        self.trouble = message
