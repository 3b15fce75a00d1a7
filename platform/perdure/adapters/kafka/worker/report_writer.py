"""Writes a worker's reports, and calls back when they are durable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from perdure.adapters.kafka.callbacks import as_raised
from perdure.adapters.kafka.error_classes import error_of, in_words
from perdure.adapters.kafka.letters import bare, encode_letter
from perdure.codec.avro import COMMANDS, DEAD_LETTERS
from perdure.model import commands as cm
from perdure.model.described import described
from perdure.model.failure import FailureInfo
from perdure.threads import WatchedThread

if TYPE_CHECKING:
    from perdure.adapters.kafka.clients.plain import PlainClients
    from perdure.adapters.kafka.status import Status
    from perdure.model.dead_letters import DeadLetter

FLUSH_S: Final = 1.0
"""Seconds between two checks whether the broker has answered."""


@dataclass(frozen=True, slots=True)
class UnreadableTask:
    """A task that cannot be read, on its way to the dead letters; `token` stands for its offset."""

    letter: DeadLetter
    token: str


Item = cm.AnyCommand | UnreadableTask


class ReportWriter:
    """A thread that writes reports, all waiting ones at a time.

    Args:
        clients: makes the producer.
        durable: called with what has been written, on this thread.
        status: shows what is waited for.
    """

    def __init__(
        self, clients: PlainClients, durable: Callable[[Sequence[Item]], None], status: Status
    ) -> None:
        self._clients = clients
        self._durable = durable
        self._status = status
        self._queue: SimpleQueue[Sequence[Item] | None] = SimpleQueue()
        self._failed: set[int] = set()
        self._smaller: dict[int, Item] = {}
        self._producer: Producer | None = None
        self._is_giving_up = False
        self._thread = WatchedThread(target=self._run, name="perdure-reports")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether reports may be left to write."""
        return self._thread.is_alive()

    def put(self, items: Sequence[Item]) -> None:
        """From any thread: have them written, in this order."""
        self._queue.put(items)

    def close(self, timeout_s: float) -> bool:
        """Write what is left.

        Args:
            timeout_s: after this time, the remaining reports are dropped, and their tasks delivered
                again.

        Returns:
            Whether all was written.
        """
        self._queue.put(None)
        if self._thread.ident is None:
            return True
        self._thread.join(timeout_s)
        if not self._thread.is_alive():
            return True
        self._is_giving_up = True
        self._thread.join(2 * FLUSH_S)
        return False

    def _run(self) -> None:
        is_open = True
        while is_open:
            items: list[Item] = []
            is_open = self._gather(items)
            left = list(items)
            while left:
                left = self._write(left)
                if self._is_giving_up:
                    return
            self._status.clear_wait()
            if items:
                self._durable(items)

    def _gather(self, items: list[Item]) -> bool:
        """Collect the waiting reports, after waiting for the first; False at the end."""
        more = self._queue.get()
        while more is not None:
            items.extend(more)
            try:
                more = self._queue.get_nowait()
            except Empty:
                return True
        return False

    def _write(self, items: list[Item]) -> list[Item]:
        """Try once to write reports; return those that were not written."""
        producer = self._producer
        if producer is None:
            self._clients.framing.load_or_tell(self._on_error)
            producer = self._producer = self._clients.producer(self._on_error, lambda _error, _message: None)
        self._failed.clear()
        for index, item in enumerate(items):
            self._produce(producer, index, item)
        while producer.flush(FLUSH_S):
            self._status.waits("reports of activities to be written")
            if self._is_giving_up:
                return items
        return [self._smaller.pop(index, items[index]) for index in sorted(self._failed)]

    def _produce(self, producer: Producer, index: int, item: Item) -> None:
        def on_delivered(error: KafkaError | None, _message: Any) -> None:
            if error is None:
                return
            # The topic takes less than this client.
            if error.code() == KafkaError.MSG_SIZE_TOO_LARGE and (less := _smaller(item, size)) is not None:
                self._smaller[index] = less
            self._not_written(index, error)

        try:
            topic, value, key, header = self._record(item)
        except Exception as fault:  # noqa: BLE001 - one report must not end the thread that writes the others
            failed = _unwritable(item, fault)
            if failed is None:
                self._status.report(
                    f"an activity's report cannot be written and was dropped: {described(fault)}"
                )
                return
            self._produce(producer, index, failed)
            return
        size = len(value)
        while True:
            try:
                producer.produce(topic, value, key, on_delivery=as_raised(on_delivered), headers=[header])
            except BufferError:
                producer.poll(0.05)
            except KafkaException as exception:
                error = error_of(exception)
                is_too_large = error.code() == KafkaError.MSG_SIZE_TOO_LARGE
                less = _smaller(item, size) if is_too_large else None
                if less is None:
                    self._not_written(index, error)
                else:
                    self._produce(producer, index, less)
                return
            else:
                return

    def _record(self, item: Item) -> tuple[str, bytes, Any, tuple[str, bytes]]:
        if isinstance(item, UnreadableTask):
            value, key = encode_letter(item.letter)
            return self._clients.topic("dead-letters"), value, key, DEAD_LETTERS.header
        return self._clients.topic("commands"), COMMANDS.encode(item), item.workflow_id, COMMANDS.header

    def _not_written(self, index: int, error: KafkaError) -> None:
        """It is written again; a producer that has failed for good is replaced."""
        self._on_error(in_words(error))
        self._status.waits("reports of activities to be written")
        self._failed.add(index)
        if error.fatal() or error.code() == KafkaError._FATAL:  # noqa: SLF001 - how the client names its own errors
            self._producer = None

    def _on_error(self, message: str) -> None:
        self._status.trouble = message


def _unwritable(item: Item, error: Exception) -> Item | None:
    """The report that replaces a result that cannot be encoded; None: none."""
    if not isinstance(item, cm.CompleteActivity):
        return None
    failure = FailureInfo("perdure.errors:PayloadError", f"the result cannot be written: {described(error)}")
    return cm.FailActivity(
        item.workflow_id, item.run_id, number=item.number, token=item.token, failure=failure
    )


def _smaller(item: Item, size: int) -> Item | None:
    """The replacement of an item that is larger than Kafka accepts; None: there is none."""
    if isinstance(item, cm.CompleteActivity):
        return _too_large(item, size)
    if isinstance(item, UnreadableTask):
        letter = bare(item.letter)
        return None if letter.value == item.letter.value else UnreadableTask(letter, item.token)
    return None


def _too_large(report: cm.CompleteActivity, size: int) -> cm.FailActivity:
    message = (
        f"the result is larger than Kafka accepts ({size} bytes); store large data elsewhere and return its "
        "address"
    )
    failure = FailureInfo("perdure.errors:PayloadError", message)
    return cm.FailActivity(
        report.workflow_id, report.run_id, number=report.number, token=report.token, failure=failure
    )
