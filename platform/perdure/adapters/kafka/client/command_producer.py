"""Writes the commands of one caller durably, and reports their places."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from perdure.adapters.kafka.callbacks import as_raised
from perdure.adapters.kafka.error_classes import error_of, in_words
from perdure.codec.avro import COMMANDS
from perdure.errors import RequestRefused
from perdure.threads import WatchedThread

if TYPE_CHECKING:
    from perdure.adapters.kafka.clients.plain import PlainClients
    from perdure.model.commands import AnyCommand

Place = tuple[int, int]
"""Partition and offset of a command."""

CLOSE_S: Final = 10.0


class CommandProducer:
    """An idempotent producer, and the thread that receives delivery reports.

    Args:
        clients: makes the producer.
        on_trouble: receives descriptions of current trouble.
    """

    def __init__(self, clients: PlainClients, on_trouble: Callable[[str], None]) -> None:
        self._clients = clients
        self._topic = clients.topic("commands")
        self._on_trouble = on_trouble
        self._lock = threading.Lock()
        self._producer = self._made()
        self._stopping = threading.Event()
        self._thread = WatchedThread(target=self._serve, name="perdure-commands")
        self._thread.start()

    def send(self, command: AnyCommand, written: Callable[[Place], None] | None = None) -> None:
        """Write a command; any thread may call this.

        Args:
            command: to write.
            written: called with its place, on the producer's thread.

        Raises:
            RequestRefused: it is larger than Kafka accepts.
        """

        def delivered(error: KafkaError | None, message: Any) -> None:
            if error is not None:
                self._not_written(command, error, written)
                return
            place: Place = (message.partition(), message.offset())
            if written is not None:
                written(place)

        self._produce(COMMANDS.encode(command), command.workflow_id, delivered)

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        """Submit commands without waiting for a reply."""
        for command in commands:
            self.send(command)

    def close(self) -> None:
        """Write the waiting commands, if possible, and close. Blocks until then. Idempotent."""
        if not self._stopping.is_set():
            self._producer.flush(CLOSE_S)
            self._stopping.set()
            self._thread.join()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(0.1)

    def _produce(self, value: bytes, key: str, delivered: Callable[[KafkaError | None, Any], None]) -> None:
        while True:
            try:
                self._producer.produce(
                    self._topic, value, key, on_delivery=as_raised(delivered), headers=[COMMANDS.header]
                )
            except BufferError:
                self._stopping.wait(0.01)
            except KafkaException as exception:
                error = error_of(exception)
                if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    raise RequestRefused(
                        f"the command is {len(value)} bytes long, more than Kafka accepts"
                    ) from None
                delivered(error, None)
                return
            else:
                return

    def _not_written(
        self, command: AnyCommand, error: KafkaError, written: Callable[[Place], None] | None
    ) -> None:
        """The client has given up after minutes, or its producer has failed; waiting callers got an
        error which says that the command may have been written.
        """
        self._on_trouble(
            f"{type(command).__name__} for {command.workflow_id!r} was not written: {in_words(error)}"
        )
        if error.fatal() or error.code() == KafkaError._FATAL:  # noqa: SLF001 - how the client names its own errors
            with self._lock:
                self._producer = self._made()
            self.send(command, written)

    def _made(self) -> Producer:
        return self._clients.producer(self._on_trouble, lambda _error, _message: None)
