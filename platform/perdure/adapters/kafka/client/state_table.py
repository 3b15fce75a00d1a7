"""A table of the states of all workflows that follows the compacted topic `<namespace>.state`."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from perdure.adapters.kafka.client.one_state import unreadable
from perdure.adapters.kafka.clients.end_offsets import Ends
from perdure.adapters.kafka.error_classes import error_of, in_words
from perdure.adapters.kafka.namespace.partitioner import partition_of
from perdure.adapters.kafka.records import header_of
from perdure.client.listing import count, select
from perdure.codec.avro import STATE
from perdure.errors import InfrastructureError, UndecodableRecord
from perdure.threads import WatchedThread

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from confluent_kafka import Consumer, Message

    from perdure.adapters.kafka.clients.plain import PlainClients
    from perdure.client.listing import ListQuery
    from perdure.model.states import WorkflowState

REQUEST_TIMEOUT_S: Final = 5.0
STILL_S: Final = 10.0
"""While the table is loaded: without any record for this long, the broker does not answer;
seconds."""
OPEN_S: Final = 2.0
"""How long a read waits for an open transaction, seconds. An engine that died in one leaves it open
for longer; then the table is read as it is, and that partition is not waited for again until it
moves."""
WAIT_MS: Final = 10
"""A read that follows a write waits so much longer: a transaction ends with a marker that is no
record, and that it has been passed is known with the next answer of the broker.
"""
IDLE_S: Final = 5.0
"""Without a read for this long nothing is fetched, seconds."""
STATE_BYTES: Final = 600
"""What a state takes beside its record."""
MOST_BYTES: Final = 1 << 30
"""The largest table. That is 1.4 million workflows with small views."""
SLOW_S: Final = 3.0
"""A first read that takes longer says what it does."""
SLOW: Final = (
    "reading the states of all workflows from %s, %d so far. The HTTP API of a deployment with PostgreSQL "
    "need not read them: https://host as the platform's address"
)
_logger: Final = logging.getLogger("perdure.client")


class StateTable:
    """Loads with `start`, in a separate thread, and then follows.

    Args:
        clients: makes the consumer.
        most_bytes: the largest size.
    """

    def __init__(self, clients: PlainClients, most_bytes: int = MOST_BYTES) -> None:
        self._clients = clients
        self._topic = clients.topic("state")
        self._lock = threading.Condition()
        self._topic_ends = Ends(clients, self._topic, self._on_trouble)
        self._states: dict[str, WorkflowState] = {}
        self._by_kind: dict[tuple[str, str], dict[str, None]] = {}
        self._positions: dict[int, int] = {}
        self._stuck: dict[int, int] = {}
        self._asked_at = 0.0
        self._trouble = ""
        self._fault: InfrastructureError | None = None
        self._moved_at = 0.0
        self._loaded: set[int] = set()
        self._size = 0
        self._most_bytes = most_bytes
        self._has_said_slow = False
        self._stopping = threading.Event()
        self._thread: WatchedThread | None = None

    def close(self) -> None:
        """Stop following. Idempotent."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self._topic_ends.close()

    # ---- reading

    @property
    def is_started(self) -> bool:
        """Whether the table follows the topic."""
        return self._thread is not None

    def get(self, workflow_id: str) -> WorkflowState | None:
        """One state, as far as the table is read."""
        with self._lock:
            return self._states.get(workflow_id)

    def select(self, query: ListQuery) -> list[WorkflowState]:
        """A page."""
        with self._lock:
            return select(query, self._of_kinds(query), query.has_rest)

    def counts(self, query: ListQuery) -> dict[tuple[str, str], int]:
        """By (type, status)."""
        if query.has_filters:
            with self._lock:
                return count(self._of_kinds(query), query)
        with self._lock:
            return {kind: len(ids) for kind, ids in self._by_kind.items() if ids}

    def _of_kinds(self, query: ListQuery) -> Iterable[WorkflowState]:
        types, statuses = query.types, query.statuses
        if not types and not statuses:
            return self._states.values()
        kinds = [
            kind
            for kind in self._by_kind
            if (not types or kind[0] in types) and (not statuses or kind[1] in statuses)
        ]
        return (self._states[each] for kind in kinds for each in self._by_kind[kind])

    # ---- catching up with the topic

    def catch_up(self, workflow_id: str = "") -> None:
        """Wait until the table has everything that the topic has at the time of the call.

        Args:
            workflow_id: the partition that it is on; empty: all of them.

        Raises:
            InfrastructureError: Kafka does not answer, or there is no such topic.
        """
        self._asked_at = time.monotonic()
        self._start()
        ends = self._ends(workflow_id)
        since = time.monotonic()
        with self._lock:
            while behind := self._behind(ends):
                self._lock.wait(0.5)
                if self._fault is not None:
                    raise self._fault
                now = time.monotonic()
                if not self._loaded.issuperset(behind):
                    if now - since > SLOW_S and not self._has_said_slow:
                        self._has_said_slow = True
                        _logger.warning(SLOW, self._topic, len(self._states))
                    still_s = now - max(since, self._moved_at)
                    if still_s > STILL_S:
                        raise InfrastructureError(
                            f"the states in {self._topic} cannot be read{self._said}; no data for "
                            f"{still_s:.0f} s"
                        )
                elif now - since > OPEN_S:
                    self._stuck.update((partition, self._positions[partition]) for partition in behind)
                    return
            if self._fault is not None:  # it is read to its end, and nothing of it is kept
                raise self._fault

    def _behind(self, ends: dict[int, int]) -> list[int]:
        found: list[int] = []
        for partition, end in ends.items():
            position = self._positions[partition]
            if position < end and self._stuck.get(partition) != position:
                found.append(partition)
        return found

    def _ends(self, workflow_id: str) -> dict[int, int]:
        if not self._positions:
            self._wait_for_partitions()
        wanted = (
            [partition_of(workflow_id.encode(), len(self._positions))]
            if workflow_id
            else list(self._positions)
        )
        return self._topic_ends.of(wanted)

    def _wait_for_partitions(self) -> None:
        """Wait until the thread has found the partitions."""
        with self._lock:
            self._lock.wait_for(lambda: self._positions or self._fault is not None, 2 * REQUEST_TIMEOUT_S)
            if self._fault is not None:
                raise self._fault
            if not self._positions:
                raise InfrastructureError(
                    f"Kafka at {self._clients.settings.get('bootstrap.servers')} does not "
                    f"respond{self._said}: check that it runs and is "
                    "reached"
                )

    @property
    def _said(self) -> str:
        return f" ({self._trouble})" if self._trouble else ""

    # ---- the thread

    def _start(self) -> None:
        with self._lock:
            is_over = self._fault is not None and self._size <= self._most_bytes  # else it would be again
            if self._thread is None or (is_over and not self._thread.is_alive()):
                self._fault = None
                self._thread = WatchedThread(target=self._run, name="perdure-states")
                self._thread.start()

    def _run(self) -> None:
        try:
            with closing(self._clients.tail(self._on_trouble, WAIT_MS)) as consumer:
                if self._open(consumer):
                    self._follow(consumer)
        except (InfrastructureError, KafkaException) as error:
            with self._lock:
                self._fault = _fault_of(error)
                self._lock.notify_all()

    def _follow(self, consumer: Consumer) -> None:
        is_paused = False
        while not self._stopping.is_set():
            message = consumer.poll(0.02)
            if message is not None:
                self._take([message, *consumer.consume(5_000, 0)])
            is_idle = time.monotonic() - self._asked_at > IDLE_S and len(self._loaded) == len(self._positions)
            if is_idle != is_paused:
                is_paused = is_idle
                (consumer.pause if is_idle else consumer.resume)(consumer.assignment())

    def _open(self, consumer: Consumer) -> bool:
        while not self._stopping.is_set():
            try:
                found = consumer.list_topics(self._topic, timeout=REQUEST_TIMEOUT_S).topics[self._topic]
            except KafkaException as exception:
                self._on_trouble(in_words(error_of(exception)))
                continue
            if found.error is not None or not found.partitions:
                raise InfrastructureError(
                    f"topic {self._topic} does not exist: create it with `perdure topics apply`; check the "
                    "namespace"
                )
            consumer.assign([TopicPartition(self._topic, partition, 0) for partition in found.partitions])
            with self._lock:
                self._positions = dict.fromkeys(found.partitions, 0)
                self._lock.notify_all()
            return True
        return False

    def _take(self, messages: Sequence[Message]) -> None:
        with self._lock:
            for message in messages:
                error = message.error()
                partition, offset = message.partition() or 0, message.offset() or 0
                if error is None:
                    self._put(message)
                    self._positions[partition] = offset + 1
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - how the client names its own errors
                    self._positions[partition] = max(offset, self._positions[partition])
                    self._loaded.add(partition)
                else:
                    self._on_trouble(in_words(error))
            self._moved_at = time.monotonic()
            self._lock.notify_all()
            if self._size > self._most_bytes:
                self._fault = _too_large(self._topic, len(self._states), self._size)
                self._states, self._by_kind = {}, {}
                raise self._fault

    def _put(self, message: Message) -> None:
        key: Any = message.key()
        value = message.value()
        if key is None:
            return
        workflow_id = key.decode(errors="replace")
        new: WorkflowState | None = None
        if value is not None:
            try:
                new = STATE.decode(value, header_of(message))
            except UndecodableRecord as fault:
                self._on_trouble(f"the state of {workflow_id!r} cannot be read: {fault}")
                new = unreadable(workflow_id, self._states.get(workflow_id), str(fault))
        old = self._states.pop(workflow_id, None)
        if old is not None:
            self._size -= _size_of(old)
            del self._by_kind[old.type, str(old.status)][workflow_id]
        if new is not None:
            self._states[workflow_id] = new
            self._size += _size_of(new)
            self._by_kind.setdefault((new.type, str(new.status)), {})[workflow_id] = None

    def _on_trouble(self, message: str) -> None:
        self._trouble = message


def _size_of(state: WorkflowState) -> int:
    """About the bytes of memory that a state takes."""
    values = len(state.view) + len(state.result) + len(state.attributes) + len(state.memo)
    return STATE_BYTES + values + len(state.details)


def _too_large(topic: str, count: int, size: int) -> InfrastructureError:
    return InfrastructureError(
        f"{topic} has more workflows than fit into the memory of one reader ({count:,} take {size >> 20:,} "
        "MiB). Project them into PostgreSQL (`perdure projector`) and read from the API: its address is "
        "https://host. `perdure workflow show` needs no projector"
    )


def _fault_of(error: InfrastructureError | KafkaException) -> InfrastructureError:
    if isinstance(error, InfrastructureError):
        return error
    return InfrastructureError(f"the Kafka client cannot be made: {in_words(error_of(error))}")
