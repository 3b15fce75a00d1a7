"""Publishes every state that is written to `<namespace>.state` when it is committed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, TopicPartition

from perdure.adapters.kafka.clients.end_offsets import Ends
from perdure.adapters.kafka.error_classes import in_words
from perdure.adapters.kafka.records import header_of
from perdure.client.position import Position
from perdure.codec.avro import STATE
from perdure.errors import InfrastructureError, UndecodableRecord
from perdure.threads import WatchedThread

if TYPE_CHECKING:
    from perdure.adapters.kafka.clients.plain import PlainClients
    from perdure.model.states import WorkflowState

Change = tuple[str, "WorkflowState | None"]
WAIT_MS = 20
BEGUN_S = 10.0


class StateFeed:
    """Follows the topic from its end, in a separate thread and outside any group. Belongs to the
    loop that starts it.

    Args:
        clients: makes the consumer.
    """

    def __init__(self, clients: PlainClients) -> None:
        self._clients = clients
        self._topic = clients.topic("state")
        self._events = Ends(clients, clients.topic("events"), self._on_trouble)
        self._states = Ends(clients, self._topic, self._on_trouble)
        self._stopping = threading.Event()
        self._thread: WatchedThread | None = None
        self._has_begun = asyncio.Event()
        self.trouble = ""

    def start(self, listener: Callable[[Sequence[Change]], None]) -> None:
        """Call the listener, on this loop, for every change from now on."""
        loop = asyncio.get_running_loop()

        def on_loop(done: Callable[..., None], *what: Any) -> None:
            if not self._stopping.is_set():
                loop.call_soon_threadsafe(done, *what)

        self._thread = WatchedThread(target=self._run, args=(listener, on_loop), name="perdure-state-feed")
        self._thread.start()

    async def begun(self) -> None:
        """Wait until the end of the topic is known.

        Raises:
            InfrastructureError: it is not known yet.
        """
        if self._has_begun.is_set():
            return
        try:
            async with asyncio.timeout(BEGUN_S):
                await self._has_begun.wait()
        except TimeoutError:
            said = f" ({self.trouble})" if self.trouble else ""
            raise InfrastructureError(f"{self._topic} cannot be followed yet{said}: retry") from None

    async def positions(self) -> list[Position]:
        """The ends of the events, by partition: a reader that has reached them has all published
        states.
        """
        return await asyncio.to_thread(self._positions)

    async def close(self) -> None:
        """Stop following. Idempotent."""
        self._stopping.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._events.close)

    def _positions(self) -> list[Position]:
        ends = self._events.of(range(self._events.count()))
        return [Position(partition, offset) for partition, offset in sorted(ends.items())]

    def _run(self, listener: Callable[[Sequence[Change]], None], on_loop: Callable[..., None]) -> None:
        consumer = self._clients.tail(self._on_trouble, WAIT_MS)
        try:
            while not self._stopping.is_set() and not self._assign(consumer):
                self._stopping.wait(1.0)
            self._states.close()
            on_loop(self._has_begun.set)
            while not self._stopping.is_set():
                message = consumer.poll(0.1)
                if message is None:
                    continue
                changes = [
                    each
                    for found in (message, *consumer.consume(5_000, 0))
                    if (each := self._change(found)) is not None
                ]
                if changes:
                    on_loop(listener, changes)
        finally:
            consumer.close()
            self._states.close()

    def _assign(self, consumer: Any) -> bool:
        """Assign partitions at their current ends. "The end" as an offset would mean the end at a
        later time.
        """
        try:
            ends = self._states.of(range(self._states.count()))
        except InfrastructureError as fault:
            self._on_trouble(str(fault))
            return False
        consumer.assign(
            [TopicPartition(self._topic, partition, offset) for partition, offset in ends.items()]
        )
        return True

    def _change(self, message: Any) -> Change | None:
        error = message.error()
        if error is not None:
            if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - how the client names its own errors
                self._on_trouble(in_words(error))
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
            self._on_trouble(f"the state of {workflow_id!r} cannot be read: {fault}")
            return None

    def _on_trouble(self, message: str) -> None:
        self.trouble = message
