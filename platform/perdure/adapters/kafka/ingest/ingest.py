"""Turns records of other systems into commands, exactly once: they are written to
`<namespace>.commands` in one transaction with the offsets.

The commands are keyed by workflow id with Java's partitioner, regardless of the producer's
partitioner. Records of a partition are taken in their order, so that the order of a key is kept.
Records that cannot be decoded become dead letters in the same transaction. The consumer group
decides which process reads which partition (`trigger_source.py`).

`<namespace>.ingest` is read, too: records that `perdure dead-letters retry` offers to the triggers
once more, each with its first place in a header.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Event
from typing import TYPE_CHECKING, Any, Final

from perdure.adapters.kafka.clients.partition_state import Place
from perdure.adapters.kafka.engine.transaction import Fenced, Transactions
from perdure.adapters.kafka.headers import headers_of
from perdure.adapters.kafka.ingest.trigger_source import TriggerSource
from perdure.adapters.kafka.letters import encode_letter
from perdure.adapters.kafka.namespace.topics import COMMANDS as COMMANDS_TOPIC
from perdure.adapters.kafka.namespace.topics import DEAD_LETTERS as DEAD_LETTERS_TOPIC
from perdure.adapters.kafka.namespace.topics import INGEST, name_of
from perdure.adapters.kafka.schema_registry.client import Registry as SchemaRegistry
from perdure.adapters.kafka.schema_registry.client import RegistryDown, registry_of
from perdure.codec.avro import COMMANDS, DEAD_LETTERS
from perdure.errors import CommitAborted, UndecodableRecord
from perdure.model.dead_letters import DeadLetter, RecordHeader
from perdure.triggers.binding import Source
from perdure.triggers.decoding import BadRecord
from perdure.triggers.offering import first_source

if TYPE_CHECKING:
    from confluent_kafka import Producer

    from perdure.adapters.kafka.clients.transactional import EngineClients
    from perdure.adapters.kafka.status import Status
    from perdure.model.commands import AnyCommand
    from perdure.triggers.binding import Bindings

_logger: Final = logging.getLogger("perdure.ingest")

BATCH: Final = 2_000
POLL_S: Final = 0.1
PAUSE_S: Final = 1.0
RETRY_AFTER_S: Final = 0.2


@dataclass(slots=True)
class IngestCounts:
    """Since the start.

    Attributes:
        records: records read.
        commands: commands made from them.
        dead_letters: records that could not be decoded.
        skipped: records for which no trigger's `when` holds.
    """

    records: int = 0
    commands: int = 0
    dead_letters: int = 0
    skipped: int = 0


@dataclass(slots=True)
class _Batch:
    commands: list[AnyCommand] = field(default_factory=list["AnyCommand"])
    letters: list[DeadLetter] = field(default_factory=list[DeadLetter])
    first: dict[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])
    ends: dict[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])
    records: int = 0
    skipped: int = 0


class Ingest:
    """The ingest of one process.

    Args:
        clients: makes Kafka clients.
        bindings: of the app.
        status: shows what is waited for.
        begin: `earliest` or `latest`: where to start a partition without committed offsets.

    Attributes:
        counts: since the start.
        lag: records that are not taken yet, by topic and partition.
    """

    def __init__(
        self, clients: EngineClients, bindings: Bindings, status: Status, *, begin: str = "earliest"
    ) -> None:
        self.counts = IngestCounts()
        self.lag: dict[Place, int] = {}
        self._clients = clients
        self._bindings = bindings
        self._status = status
        self._stopping = Event()
        self._transactions = Transactions(clients, status, self._stopping.is_set)
        self._commands = name_of(clients.namespace, COMMANDS_TOPIC)
        self._dead_letters = name_of(clients.namespace, DEAD_LETTERS_TOPIC)
        self._again = name_of(clients.namespace, INGEST)
        topics, group = [*bindings.topics, self._again], f"{clients.namespace}.ingest"
        self._topics = TriggerSource(clients, topics, group, begin=begin, status=status)
        address = registry_of(clients.settings)
        self._registry = SchemaRegistry(address, tries=1) if address is not None else None
        self._schemas: dict[int, str] = {}
        self._looked_at = 0.0

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Until `request_stop`.

        Args:
            ready: called once the broker answers.

        Raises:
            InfrastructureError: waiting does not help; the message says what to do.
        """
        self._clients.framing.open(self._status, self._stopping.wait)
        self._transactions.open()
        self._topics.join()
        _logger.info("started; topics %s", ", ".join(self._bindings.topics))
        ready()
        try:
            while not self._stopping.is_set():
                self._turn()
        finally:
            self._topics.close()
            self._transactions.close()
            _logger.info("stopped")

    def request_stop(self) -> None:
        """Ask for a stop and return immediately; any thread."""
        self._stopping.set()

    # ---- a batch

    def _turn(self) -> None:
        records = self._topics.take(BATCH, POLL_S)
        if (now := time.monotonic()) - self._looked_at > PAUSE_S:
            self._looked_at = now
            self.lag = self._topics.lag()
        if not records:
            return
        batch = self._batch_of(records)
        if not batch.ends:
            return
        try:
            self._write(batch)
        except Fenced as error:
            self._status.report(f"{error}; no data lost, rejoining")
            self._topics.close()
            self._topics.join()
        except CommitAborted as error:
            self._status.report(f"{error}; no data lost, retrying")
            self._topics.refresh()
            self._topics.rewind(batch.first)
            self._stopping.wait(RETRY_AFTER_S)
        else:
            self._count(batch)

    def _batch_of(self, records: list[Any]) -> _Batch:
        """Decode the records into commands. If the schema registry must be asked and does not
        respond, the partition waits; the others continue.
        """
        batch = _Batch()
        waiting: set[Place] = set()
        for record in records:
            place = (record.topic(), record.partition())
            if place in waiting:
                continue
            source = Source(*place, record.offset(), record.key(), record.value(), ())
            try:
                source = self._read(source, record)
                commands = self._bindings.commands_of(
                    source, self._schema_of if self._registry is not None else None
                )
            except RegistryDown as error:
                self._status.trouble = str(error)
                self._status.waits("the schema registry")
                self._topics.hold(place, record.offset(), PAUSE_S)
                waiting.add(place)
                continue
            except BadRecord as bad:
                batch.commands += bad.commands
                batch.letters.append(_letter(source, record.timestamp()[1], bad))
            else:
                batch.commands += commands
                batch.skipped += not commands
            batch.records += 1
            batch.first.setdefault(place, record.offset())
            batch.ends[place] = record.offset() + 1
        return batch

    def _read(self, source: Source, record: Any) -> Source:
        """With its headers; as it was found first, when it is offered once more."""
        try:
            found = replace(source, headers=headers_of(record))
        except UndecodableRecord as error:
            raise BadRecord(error.reason, str(error)) from None
        return first_source(found) if source.topic == self._again else found

    def _write(self, batch: _Batch) -> None:
        metadata = self._topics.metadata
        if metadata is None:
            raise CommitAborted("this process is not a member of its group at the moment")
        if strays := batch.ends.keys() - self._topics.owned:
            raise CommitAborted(f"{sorted(strays)} were reassigned to another process")

        def write(producer: Producer) -> None:
            for command in batch.commands:
                _produce(
                    producer, self._commands, COMMANDS.encode(command), command.workflow_id, [COMMANDS.header]
                )
            for letter in batch.letters:
                value, key = encode_letter(letter)
                _produce(producer, self._dead_letters, value, key, [DEAD_LETTERS.header])

        self._transactions.run(write, self._topics.offsets(batch.ends), metadata)

    def _count(self, batch: _Batch) -> None:
        counts = self.counts
        counts.records += batch.records
        counts.commands += len(batch.commands)
        counts.dead_letters += len(batch.letters)
        counts.skipped += batch.skipped
        for letter in batch.letters:
            self._status.report_letter(
                f"{letter.topic}, partition {letter.partition}, offset {letter.offset}: {letter.message}; "
                f"it is in {self._dead_letters} "
                f"({letter.reason})",
                topic=letter.topic,
                partition=letter.partition,
                offset=letter.offset,
            )

    def _schema_of(self, number: int) -> str | None:
        """The schema of an id, which never changes; one that is not known may come yet."""
        if (known := self._schemas.get(number)) is not None:
            return known
        assert self._registry is not None
        found = self._registry.schema_of(number)
        self._status.clear_wait()
        if found is not None:
            self._schemas[number] = found
        return found


def _letter(source: Source, timestamp_ms: int, bad: BadRecord) -> DeadLetter:
    headers = tuple(RecordHeader(name, value) for name, value in source.headers)
    return DeadLetter(
        source.topic,
        source.partition,
        source.offset,
        timestamp_ms=timestamp_ms,
        reason=bad.reason,
        message=str(bad),
        found_at=time.time_ns() // 1_000,
        key=source.key,
        value=source.value,
        headers=headers,
    )


def _produce(producer: Producer, topic: str, value: bytes, key: str | bytes | None, headers: Any) -> None:
    while True:
        try:
            producer.produce(topic, value, key, headers=headers)
        except BufferError:
            producer.poll(0.01)
        else:
            return
