"""Takeover: a new owner restores a partition, outside the engine's thread.

For partitions that were just assigned, and are paused: read the committed offsets, and fence the
owner before if it left a transaction open; bring the store to the READ_UNCOMMITTED end of the
events, reading committed records only, for now and then an offset is visible before the last events
are; compare the commands that the events name with the committed offset. The engine's thread claims
the partitions.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum, auto
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, cast

import confluent_kafka.admin as kafka_admin
from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition

from perdure.adapters.kafka.clients.owner_fence import (
    FENCE_TIMEOUT_S,
    REQUEST_TIMEOUT_S,
    STUCK_AFTER_S,
    OwnerFence,
)
from perdure.adapters.kafka.engine.first_command import NOTHING_KNOWN, Bounds, first_command
from perdure.adapters.kafka.error_classes import error_of, in_words
from perdure.adapters.kafka.headers import headers_left
from perdure.errors import InfrastructureError
from perdure.threads import WatchedThread

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from confluent_kafka import Consumer

    from perdure.adapters.kafka.clients.partition_state import Place
    from perdure.adapters.kafka.clients.transactional import EngineClients
    from perdure.adapters.kafka.engine.membership import Generation
    from perdure.adapters.kafka.engine.ports import Record, Restorer
    from perdure.adapters.kafka.namespace.layout import Layout
    from perdure.adapters.kafka.status import Status

EARLIEST: Final = cast("Any", kafka_admin).OffsetSpec.earliest()
LATEST: Final = cast("Any", kafka_admin).OffsetSpec.latest()
END_OF_PARTITION: Final = cast("Any", KafkaError)._PARTITION_EOF  # noqa: SLF001 - its public name

ANSWER_TIMEOUT_S: Final = 2 * REQUEST_TIMEOUT_S
"""The client itself ends a request after `REQUEST_TIMEOUT_S`, with an error of Kafka's; this limit
only keeps a bug from blocking the takeover."""

BATCH_RECORDS: Final = 5_000
POLL_TIMEOUT_S: Final = 0.1
POLL_INTERVAL_S: Final = 0.02
RETRY_AFTER_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Restored:
    """A partition whose store is up to date with its events.

    Attributes:
        partition: its number.
        generation: of the assignment it was restored for.
        offset: of the first command that is to be handed out.
        is_ahead: events were ahead of the committed offset: the commands in between are skipped,
            and tasks that have not ended have to be sent again.
    """

    partition: int
    generation: int
    offset: int
    is_ahead: bool


class _Phase(Enum):
    WAITING = auto()
    """Its store is closed."""
    READING = auto()
    """The store is open, and behind the events."""
    RESTORED = auto()
    """The store is open, and the engine's thread knows it. It closes the store of a partition that
    is live."""


@dataclass(slots=True)
class _Restore:
    """A partition, as the side thread has it."""

    generation: int
    phase: _Phase = _Phase.WAITING
    bounds: Bounds = NOTHING_KNOWN
    end: int = 0
    position: int = 0


class Takeover:
    """The side thread.

    Args:
        clients: makes its own.
        layout: the topics.
        restorer: the store.
        status: shows progress and what is waited for.
        wake: called when something is done.
    """

    def __init__(
        self,
        clients: EngineClients,
        layout: Layout,
        restorer: Restorer,
        *,
        status: Status,
        wake: Callable[[], None],
    ) -> None:
        self._clients = clients
        self._layout = layout
        self._restorer = restorer
        self._status = status
        self._wake = wake
        self._jobs: SimpleQueue[tuple[Sequence[Generation], Sequence[Generation]] | None] = SimpleQueue()
        self._done: SimpleQueue[Restored | BaseException] = SimpleQueue()
        self._restores: dict[int, _Restore] = {}
        self._fence = OwnerFence(clients, status)
        self._thread = WatchedThread(target=self._run, name="perdure-kafka-takeover")

    # ---- on the engine's thread

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def hand_over(self, dropped: Sequence[Generation], fresh: Sequence[Generation]) -> None:
        """Hand over partitions with their generations: those to drop, and those to restore."""
        self._jobs.put((dropped, fresh))

    @property
    def has_done(self) -> bool:
        """Whether a restore is finished and not yet returned by `done`."""
        return not self._done.empty()

    def done(self) -> list[Restored]:
        """The restores finished since the last call. The caller must check that the generation is
        current.

        Raises:
            InfrastructureError: the store cannot be opened or written; the message says what to do.
        """
        found: list[Restored] = []
        while not self._done.empty():
            each = self._done.get_nowait()
            if isinstance(each, BaseException):
                raise each
            found.append(each)
        return found

    def stop(self) -> None:
        """End the thread; stores that are being restored are closed."""
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join(FENCE_TIMEOUT_S)

    # ---- on the side thread

    def _run(self) -> None:
        reader = self._clients.reader(self._on_error)
        admin = self._clients.admin(self._on_error)
        try:
            while self._next_jobs(reader):
                try:
                    if self._in_phase(_Phase.WAITING):
                        self._begin(reader, admin)
                    if self._in_phase(_Phase.READING):
                        self._read(reader)
                    self._status.clear_takeover_wait()
                except KafkaException as exception:
                    waiting = sorted({*self._in_phase(_Phase.WAITING), *self._in_phase(_Phase.READING)})
                    self._status.waits_to_take_over(
                        f"partitions {waiting} to be taken over ({in_words(error_of(exception))})"
                    )
                    time.sleep(RETRY_AFTER_S)
                    # An admin that has asked before a broker failed continues asking with the
                    # leader's old epoch, and is refused for ever.
                    admin = self._clients.admin(self._on_error)
        except BaseException as error:
            self._done.put(error)
            self._wake()
            if not isinstance(error, InfrastructureError):
                raise
        finally:
            for partition in self._in_phase(_Phase.READING):
                self._restorer.close(partition)
            reader.close()
            self._fence.close()

    def _in_phase(self, phase: _Phase) -> dict[int, _Restore]:
        return {partition: restore for partition, restore in self._restores.items() if restore.phase is phase}

    def _next_jobs(self, reader: Consumer) -> bool:
        """Do the jobs of the engine's thread; False: stop. Waits for a job if there is nothing to
        restore.
        """
        is_idle = all(restore.phase is _Phase.RESTORED for restore in self._restores.values())
        while True:
            try:
                job = self._jobs.get(block=is_idle)
            except Empty:
                return True
            is_idle = False
            if job is None:
                return False
            dropped, fresh = job
            for partition, generation in dropped:
                self._drop(reader, partition, generation)
            self._restores.update((partition, _Restore(generation)) for partition, generation in fresh)

    def _drop(self, reader: Consumer, partition: int, generation: int) -> None:
        restore = self._restores.get(partition)
        if restore is None or restore.generation != generation:
            return
        del self._restores[partition]
        self._status.restoring.pop(partition, None)
        if restore.phase is _Phase.READING:
            reader.incremental_unassign([TopicPartition(self._layout.events, partition)])
        if restore.phase is not _Phase.WAITING:
            self._restorer.close(partition)

    # ---- where they are

    def _begin(self, reader: Consumer, admin: Any) -> None:
        waiting = self._in_phase(_Phase.WAITING)
        committed = self._stable_offsets(reader, admin, waiting)
        low, high = _ends(admin, self._layout.commands, waiting, EARLIEST, LATEST)
        ends = _ends(admin, self._layout.events, waiting, LATEST)[0]
        lows = _ends(admin, self._layout.events, waiting, EARLIEST)[0]
        assigned: list[TopicPartition] = []
        for partition, restore in waiting.items():
            checkpoint = self._restorer.open(partition, ends[partition])
            restore.bounds = Bounds(committed[partition], low[partition], high[partition])
            restore.end = ends[partition]
            restore.position = lows[partition] if checkpoint is None else checkpoint
            restore.phase = _Phase.READING
            self._status.restoring[partition] = max(0, restore.end - restore.position)
            if restore.position >= restore.end:
                self._finish(partition, restore)
            else:
                assigned.append(TopicPartition(self._layout.events, partition, restore.position))
        if assigned:
            reader.incremental_assign(assigned)

    def _stable_offsets(self, reader: Consumer, admin: Any, partitions: Iterable[int]) -> dict[int, int]:
        """The committed offsets, once no transaction is open on them or on the events: -1 where
        there is none.
        """

        def hidden(places: Collection[Place]) -> set[Place]:
            numbers = self._hidden(admin, [partition for _, partition in places])
            return {(self._layout.commands, partition) for partition in numbers}

        wanted = [(self._layout.commands, partition) for partition in partitions]
        return {
            place[1]: offset for place, offset in self._fence.stable_offsets(reader, wanted, hidden).items()
        }

    def _hidden(self, admin: Any, partitions: Collection[int]) -> set[int]:
        """Partitions whose events committed readers cannot read to the end: a transaction is
        open.
        """
        ends = _ends(admin, self._layout.events, partitions, LATEST)[0]
        deadline = time.monotonic() + STUCK_AFTER_S
        while True:
            stable = _ends(
                admin, self._layout.events, partitions, LATEST, isolation=IsolationLevel.READ_COMMITTED
            )[0]
            hidden = {partition for partition in partitions if stable[partition] < ends[partition]}
            if not hidden or time.monotonic() > deadline:
                return hidden
            time.sleep(POLL_INTERVAL_S)

    # ---- the events

    def _read(self, reader: Consumer) -> None:
        reading = self._in_phase(_Phase.READING)
        found: dict[int, list[Record]] = {}
        first = reader.poll(POLL_TIMEOUT_S)
        for record in [first, *reader.consume(BATCH_RECORDS, 0)] if first is not None else []:
            message: Any = record
            restore = reading.get(message.partition())
            if restore is None:
                continue
            error = message.error()
            if error is None:
                found.setdefault(message.partition(), []).append(
                    (message.offset(), message.key(), message.value(), cast("Any", headers_left(message)))
                )
            elif error.code() == END_OF_PARTITION:
                # The consumer's end counts transaction markers and aborted records, which are never
                # delivered.
                self._restore(message.partition(), restore, found.pop(message.partition(), []))
                restore.position = message.offset()
            elif not error.retriable():
                self._status.trouble = in_words(error)
        for partition, records in found.items():
            self._restore(partition, reading[partition], records)
        for partition, restore in reading.items():
            if restore.position >= restore.end:
                reader.incremental_unassign([TopicPartition(self._layout.events, partition)])
                self._finish(partition, restore)

    def _restore(self, partition: int, restore: _Restore, records: list[Record]) -> None:
        if records:
            self._restorer.restore(partition, records)
            restore.position = records[-1][0] + 1
            self._status.restoring[partition] = max(0, restore.end - restore.position)

    def _finish(self, partition: int, restore: _Restore) -> None:
        """Find the first command of a partition whose store is up to date."""
        caused_by = self._restorer.restored(partition, max(restore.end, restore.position))
        offset, is_ahead = first_command(
            partition, restore.bounds, caused_by, layout=self._layout, status=self._status
        )
        restore.phase = _Phase.RESTORED
        self._status.restoring.pop(partition, None)
        self._done.put(Restored(partition, restore.generation, offset, is_ahead))
        self._wake()

    def _on_error(self, message: str) -> None:
        self._status.trouble = message


def _ends(
    admin: Any,
    topic: str,
    partitions: Iterable[int],
    *specs: Any,
    isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
) -> list[dict[int, int]]:
    asked = [
        admin.list_offsets(
            {TopicPartition(topic, partition): spec for partition in partitions},
            isolation_level=isolation,
            request_timeout=REQUEST_TIMEOUT_S,
        )
        for spec in specs
    ]
    return [
        {each.partition: future.result(ANSWER_TIMEOUT_S).offset for each, future in answer.items()}
        for answer in asked
    ]
