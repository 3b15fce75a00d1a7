"""A new owner's way to a partition, off the engine's thread (KAFKA.md 3).

For partitions that were just assigned, and are paused: read who owned them; see whether that owner left a transaction open, and fence
it if so; read the committed offsets; bring the store to the READ_UNCOMMITTED end of the events, reading committed records only;
compare what the events say they were caused by with the committed offset. Claiming them is the engine's thread's.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, cast

import confluent_kafka.admin as kafka_admin
from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition

from perdure.adapters.kafka.error_classes import error_of, in_words
from perdure.adapters.kafka.headers import headers_left
from perdure.errors import InfrastructureError
from perdure.threads import Watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from confluent_kafka import Consumer, Producer

    from perdure.adapters.kafka.clients.transactional import EngineClients
    from perdure.adapters.kafka.engine.ports import Record, Restorer
    from perdure.adapters.kafka.namespace.layout import Layout
    from perdure.adapters.kafka.status import Status

EARLIEST: Final = cast("Any", kafka_admin).OffsetSpec.earliest()
LATEST: Final = cast("Any", kafka_admin).OffsetSpec.latest()
PENDING: Final = (cast("Any", KafkaError)._TIMED_OUT, KafkaError.UNSTABLE_OFFSET_COMMIT)  # noqa: SLF001 - its public name
"""What is said of committed offsets while a transaction that holds them is open."""
END_OF_PARTITION: Final = cast("Any", KafkaError)._PARTITION_EOF  # noqa: SLF001 - its public name

STUCK_S: Final = 0.3
"""An owner whose transaction has not ended after this time is stuck, seconds."""

ASK_S: Final = 10.0
ANSWERED_S: Final = 2 * ASK_S
"""The client itself ends a question after `ASK_S`, as an error of Kafka's; this is only not to hang on a bug."""

FENCE_S: Final = 30.0
RECORDS: Final = 5_000
READ_S: Final = 0.1
RETRY_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Restored:
    """A partition whose store is where its events are.

    Attributes:
        partition: its number.
        generation: of the assignment it was restored for.
        offset: of the first command that is to be handed out.
        is_ahead: events were ahead of the committed offset: the commands in between are skipped, and tasks that have not ended
            have to be sent again.
    """

    partition: int
    generation: int
    offset: int
    is_ahead: bool


@dataclass(slots=True)
class _Restoring:
    generation: int
    committed: int
    low: int
    high: int
    end: int
    position: int


class Takeover:
    """The side thread.

    Args:
        clients: makes its own.
        layout: the topics.
        restorer: the store.
        status: told of progress and waits.
        wake: called when something is done.
    """

    def __init__(
        self, clients: EngineClients, layout: Layout, restorer: Restorer, status: Status, wake: Callable[[], None]
    ) -> None:
        self._clients = clients
        self._layout = layout
        self._restorer = restorer
        self._status = status
        self._wake = wake
        self._jobs: SimpleQueue[tuple[list[tuple[int, int]], list[tuple[int, int]]] | None] = SimpleQueue()
        self._done: SimpleQueue[Restored | BaseException] = SimpleQueue()
        self._partitions: dict[int, _Restoring] = {}
        self._waiting: dict[int, int] = {}
        self._open: set[int] = set()
        self._offsets: Consumer | None = None
        self._thread = Watched(target=self._run, name="perdure-kafka-takeover")

    # ---- on the engine's thread

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def hand_over(self, dropped: list[tuple[int, int]], fresh: list[tuple[int, int]]) -> None:
        """Partitions with their generations: no longer wanted; assigned."""
        self._jobs.put((dropped, fresh))

    @property
    def has_done(self) -> bool:
        """Whether anything waits for `done`."""
        return not self._done.empty()

    def done(self) -> list[Restored]:
        """What has been restored since the last call. It is for the caller to see that the generation is current.

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
        """End the thread; what was being restored is let go of."""
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join(FENCE_S)

    # ---- on the side thread

    def _run(self) -> None:
        reader = self._clients.reader(self._troubled)
        admin = self._clients.admin(self._troubled)
        try:
            while self._next_jobs(reader):
                try:
                    if self._waiting:
                        self._begin(reader, admin)
                    if self._partitions:
                        self._read(reader)
                    self._status.goes_on_taking_over()
                except KafkaException as exception:
                    error = error_of(exception)
                    self._status.waits_to_take_over(
                        f"partitions {sorted({*self._waiting, *self._partitions})} to be taken over ({in_words(error)})"
                    )
                    time.sleep(RETRY_S)
                    # One that has asked before a broker failed goes on asking with the leader's old epoch, and is refused for ever.
                    admin = self._clients.admin(self._troubled)
        except BaseException as error:
            self._done.put(error)
            self._wake()
            if not isinstance(error, InfrastructureError):
                raise
        finally:
            for partition in list(self._partitions):
                self._restorer.close(partition)
            reader.close()
            if self._offsets is not None:
                self._offsets.close()

    def _next_jobs(self, reader: Consumer) -> bool:
        """Take over what the engine's thread says; False: stop."""
        is_idle = not self._partitions and not self._waiting
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
            self._waiting.update(fresh)

    def _drop(self, reader: Consumer, partition: int, generation: int) -> None:
        if self._waiting.get(partition) == generation:
            del self._waiting[partition]
        if partition in self._open:
            self._open.discard(partition)
            self._restorer.close(partition)
        if self._partitions.pop(partition, None) is not None:
            reader.incremental_unassign([TopicPartition(self._layout.events, partition)])
        self._status.restoring.pop(partition, None)

    # ---- whose they were, and where they are

    def _begin(self, reader: Consumer, admin: Any) -> None:
        waiting = dict(self._waiting)
        committed = self._stable_offsets(reader, admin, list(waiting))
        low, high = self._ends(admin, self._layout.commands, waiting, EARLIEST, LATEST)
        ends = self._ends(admin, self._layout.events, waiting, LATEST)[0]
        lows = self._ends(admin, self._layout.events, waiting, EARLIEST)[0]
        assigned: list[TopicPartition] = []
        for partition, generation in waiting.items():
            checkpoint = self._restorer.open(partition, ends[partition])
            self._open.add(partition)
            position = lows[partition] if checkpoint is None else checkpoint
            state = _Restoring(generation, committed[partition], low[partition], high[partition], ends[partition], position)
            self._waiting.pop(partition)
            self._partitions[partition] = state
            self._status.restoring[partition] = max(0, state.end - position)
            if position >= state.end:
                self._finish(partition, state)
            else:
                assigned.append(TopicPartition(self._layout.events, partition, position))
        if assigned:
            reader.incremental_assign(assigned)

    def _stable_offsets(self, reader: Consumer, admin: Any, partitions: list[int]) -> dict[int, int]:
        """The committed offsets, once no transaction is open on them: -1 where there is none."""
        owners = self._owners(partitions)
        offsets = self._unless_pending(reader, partitions, STUCK_S)
        stuck = self._hidden(admin, partitions)
        if offsets is not None and not stuck:
            return offsets
        if offsets is None:  # of which of them? the owners of the others may well be alive
            stuck.update(each for each in partitions if self._unless_pending(reader, [each], STUCK_S / 3) is None)
        for owner in {owners[partition] for partition in stuck if partition in owners}:
            self._fence(owner)
        return self._committed(reader, partitions, ASK_S)

    def _owners(self, partitions: list[int]) -> dict[int, str]:
        """Whose a partition was, unless it was ours."""
        wanted = [TopicPartition(self._layout.commands, partition) for partition in partitions]
        if self._offsets is None:
            self._offsets = self._clients.offsets(self._troubled)
        found: Any = self._offsets.committed(wanted, timeout=ASK_S)
        if errors := [each.error for each in found if each.error is not None]:
            raise KafkaException(errors[0])
        return {
            each.partition: each.metadata for each in found if each.metadata not in {None, "", self._clients.transactional_id}
        }

    def _unless_pending(self, reader: Consumer, partitions: list[int], timeout_s: float) -> dict[int, int] | None:
        """The committed offsets; None when an open transaction holds some of them."""
        try:
            return self._committed(reader, partitions, timeout_s)
        except KafkaException as exception:
            if error_of(exception).code() not in PENDING:
                raise
            return None

    def _committed(self, reader: Consumer, partitions: list[int], timeout_s: float) -> dict[int, int]:
        """Repeated to the deadline; an error never means that the offsets have not moved."""
        wanted = [TopicPartition(self._layout.commands, partition) for partition in partitions]
        deadline = time.monotonic() + timeout_s
        while True:
            left_s = deadline - time.monotonic()
            try:
                found = reader.committed(wanted, timeout=max(0.05, left_s))
            except KafkaException:
                if left_s <= 0:
                    raise
            else:
                errors = [each.error for each in found if each.error is not None]
                if not errors:
                    return {each.partition: max(each.offset, -1) for each in found}
                if left_s <= 0:
                    raise KafkaException(errors[0])
            time.sleep(0.02)

    def _hidden(self, admin: Any, partitions: list[int]) -> set[int]:
        """Where committed readers do not get to the end of the events: a transaction is open there."""
        ends = self._ends(admin, self._layout.events, partitions, LATEST)[0]
        deadline = time.monotonic() + STUCK_S
        while True:
            stable = self._ends(admin, self._layout.events, partitions, LATEST, isolation=IsolationLevel.READ_COMMITTED)[0]
            hidden = {partition for partition in partitions if stable[partition] < ends[partition]}
            if not hidden or time.monotonic() > deadline:
                return hidden
            time.sleep(0.02)

    def _fence(self, owner: str) -> None:
        """End the open transaction of an owner that is stuck: a producer with its id. Never done to one that is not."""
        self._status.report(f"engine {owner} has left a transaction open and does not end it: it is fenced")
        self._status.counts.owners_fenced += 1
        producer: Producer = self._clients.producer(self._troubled, owner)
        producer.init_transactions(FENCE_S)

    def _ends(
        self,
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
                request_timeout=ASK_S,
            )
            for spec in specs
        ]
        return [{each.partition: future.result(ANSWERED_S).offset for each, future in answer.items()} for answer in asked]

    # ---- the events

    def _read(self, reader: Consumer) -> None:
        if all(state.position >= state.end for state in self._partitions.values()):
            return
        found: dict[int, list[Record]] = {}
        first = reader.poll(READ_S)
        for record in [first, *reader.consume(RECORDS, 0)] if first is not None else []:
            message: Any = record
            state = self._partitions.get(message.partition())
            if state is None:
                continue
            error = message.error()
            if error is None:
                found.setdefault(message.partition(), []).append(
                    (message.offset(), message.key(), message.value(), cast("Any", headers_left(message)))
                )
            elif error.code() == END_OF_PARTITION:
                self._take_over(message.partition(), state, found.pop(message.partition(), []))
                state.position = message.offset()
            elif not error.retriable():
                self._status.trouble = in_words(error)
        for partition, records in found.items():
            self._take_over(partition, self._partitions[partition], records)
        for partition, state in list(self._partitions.items()):
            if state.position >= state.end:
                reader.incremental_unassign([TopicPartition(self._layout.events, partition)])
                self._finish(partition, state)

    def _take_over(self, partition: int, state: _Restoring, records: list[Record]) -> None:
        if records:
            self._restorer.restore(partition, records)
            state.position = records[-1][0] + 1
            self._status.restoring[partition] = max(0, state.end - state.position)

    def _finish(self, partition: int, state: _Restoring) -> None:
        """The store is there: where do the commands begin?"""
        caused_by = self._restorer.restored(partition, max(state.end, state.position))
        offset = state.committed if state.committed >= 0 else state.low
        if offset < state.low:
            self._status.report(
                f"{self._layout.commands}, partition {partition}: the commands from offset {offset} to {state.low} were deleted "
                "before anybody took them. Give the topic a longer retention.",
                topic=self._layout.commands,
                partition=partition,
                offset=offset,
            )
            offset = state.low
        is_ahead = caused_by >= offset
        if is_ahead and caused_by >= state.high:
            self._status.report(
                f"ALARM: {self._layout.events}, partition {partition}, holds events of a command at offset {caused_by}, where "
                f"{self._layout.commands} ends at {state.high}: the topic of commands was created anew. Its commands are taken "
                "from the beginning of what is there.",
                topic=self._layout.events,
                partition=partition,
            )
            is_ahead = False
        elif is_ahead:
            self._status.counts.events_ahead += 1
            self._status.report(
                f"ALARM: {self._layout.events}, partition {partition}, is ahead of the committed offset {offset}: a transaction was "
                f"split when an engine and a broker died together. The commands up to {caused_by} are skipped, for they are in the "
                "history; tasks that have not ended are sent again under the same tokens.",
                topic=self._layout.events,
                partition=partition,
                offset=offset,
            )
            offset = caused_by + 1
        del self._partitions[partition]
        self._status.restoring.pop(partition, None)
        self._done.put(Restored(partition, state.generation, offset, is_ahead))
        self._wake()

    def _troubled(self, message: str) -> None:
        self._status.trouble = message
