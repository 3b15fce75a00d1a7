"""Topics of others become commands, exactly once: read, and written to `<namespace>.commands` in one transaction with the offsets.

The commands are keyed by workflow id with Java's partitioner, whatever partitioner the producer of the records used. Records of a partition are taken in their order,
so that the order of a key is kept. What means nothing becomes a dead letter in the same transaction. Which process reads which partition is the group's to say; a batch of
one that has lost a partition meanwhile is refused by the broker, and read again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Event
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaException, TopicPartition

from perdure.codec.avro import COMMANDS, DEAD_LETTERS
from perdure.errors import CommitAborted
from perdure.log.kafka.registry import Registry as SchemaRegistry
from perdure.log.kafka.registry import RegistryDown, registry_of
from perdure.log.kafka.topics import COMMANDS as COMMANDS_TOPIC
from perdure.log.kafka.topics import DEAD_LETTERS as DEAD_LETTERS_TOPIC
from perdure.log.kafka.topics import name_of
from perdure.log.kafka.transaction import Fenced, Transactions
from perdure.log.kafka.verdict import error_of, in_words
from perdure.model.dead_letters import DeadLetter, RecordHeader
from perdure.triggers.binding import Source
from perdure.triggers.decoding import BadRecord

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Producer

    from perdure.log.kafka.clients import EngineClients
    from perdure.log.kafka.status import Status
    from perdure.model.commands import AnyCommand
    from perdure.triggers.binding import Bindings

BATCH: Final = 2_000
POLL_S: Final = 0.1
PAUSE_S: Final = 1.0


@dataclass(slots=True)
class IngestCounts:
    """Since the start.

    Attributes:
        records: that were read.
        commands: that they led to.
        dead_letters: that meant nothing.
        passed_over: for which no trigger's `when` holds.
    """

    records: int = 0
    commands: int = 0
    dead_letters: int = 0
    passed_over: int = 0


@dataclass(slots=True)
class _Batch:
    commands: list[AnyCommand] = field(default_factory=list["AnyCommand"])
    letters: list[DeadLetter] = field(default_factory=list[DeadLetter])
    first: dict[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])
    ends: dict[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])
    passed_over: int = 0


class Ingest:
    """One process's.

    Args:
        clients: makes Kafka clients.
        bindings: of the app.
        status: told of stalls.
        begin: `earliest` or `latest`: where a partition begins that nobody has read yet.
    """

    def __init__(self, clients: EngineClients, bindings: Bindings, status: Status, begin: str = "earliest") -> None:
        self.counts = IngestCounts()
        self._clients = clients
        self._bindings = bindings
        self._status = status
        self._begin = begin
        self._stopping = Event()
        self._transactions = Transactions(clients, status, self._stopping.is_set)
        self._commands = name_of(clients.namespace, COMMANDS_TOPIC)
        self._dead_letters = name_of(clients.namespace, DEAD_LETTERS_TOPIC)
        address = registry_of(clients.settings)
        self._schema_of = lru_cache(10_000)(SchemaRegistry(address, tries=1).schema_of) if address is not None else None

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Until `request_stop`.

        Args:
            ready: called once the broker answers.

        Raises:
            InfrastructureError: waiting does not help; the message says what to do.
        """
        self._clients.framing.open(self._status, self._stopping.wait)
        self._transactions.open()
        consumer = self._joined()
        ready()
        try:
            while not self._stopping.is_set():
                consumer = self._turn(consumer)
        finally:
            consumer.close()
            self._transactions.close()

    def request_stop(self) -> None:
        """Ask for a stop and return at once; any thread."""
        self._stopping.set()

    def _joined(self) -> Consumer:
        consumer = self._clients.stranger(f"{self._clients.namespace}.ingest", self._begin, self._troubled)
        consumer.subscribe(self._bindings.topics)
        return consumer

    def _turn(self, consumer: Consumer) -> Consumer:
        """One batch; the consumer to go on with."""
        first = consumer.poll(POLL_S)
        found: list[Any] = [first, *consumer.consume(BATCH, 0)] if first is not None else []
        records = [record for record in found if record.error() is None or self._tell(record.error())]
        if not records:
            return consumer
        try:
            batch = self._batch_of(records)
        except RegistryDown as error:
            self._status.trouble = str(error)
            self._status.waits("the schema registry")
            self._rewind(consumer, _firsts(records))
            self._stopping.wait(PAUSE_S)
            return consumer
        try:
            self._write(consumer, batch)
        except Fenced as error:
            self._status.report(f"{error}; nothing is lost, joining again")
            consumer.close()
            return self._joined()
        except CommitAborted as error:
            self._status.report(f"{error}; nothing is lost, trying again")
            self._rewind(consumer, batch.first)
            self._stopping.wait(PAUSE_S / 5)
            return consumer
        self._status.goes_on()
        counts = self.counts
        counts.records += len(records)
        counts.commands += len(batch.commands)
        counts.dead_letters += len(batch.letters)
        counts.passed_over += batch.passed_over
        for letter in batch.letters:
            self._status.report(
                f"{letter.topic}, partition {letter.partition}, offset {letter.offset}: {letter.message}; it is in {self._dead_letters} "
                f"({letter.reason})"
            )
        return consumer

    def _batch_of(self, records: list[Any]) -> _Batch:
        batch = _Batch(first=_firsts(records))
        for record in records:
            source = Source(
                record.topic(), record.partition(), record.offset(), record.key(), record.value(), record.headers() or ()
            )
            batch.ends[source.topic, source.partition] = source.offset + 1
            try:
                commands = self._bindings.commands_of(source, self._schema_of)
            except BadRecord as bad:
                batch.letters.append(_letter(source, record.timestamp()[1], bad))
                continue
            batch.commands += commands
            batch.passed_over += not commands
        return batch

    def _write(self, consumer: Consumer, batch: _Batch) -> None:
        offsets = [TopicPartition(topic, partition, end) for (topic, partition), end in batch.ends.items()]

        def write(producer: Producer) -> None:
            for command in batch.commands:
                _produce(producer, self._commands, COMMANDS.encode(command), command.workflow_id, [COMMANDS.header])
            for letter in batch.letters:
                _produce(producer, self._dead_letters, DEAD_LETTERS.encode(letter), letter.key, [DEAD_LETTERS.header])

        self._transactions.run(write, offsets, consumer.consumer_group_metadata())

    def _rewind(self, consumer: Consumer, firsts: dict[tuple[str, int], int]) -> None:
        """Read again what was not written; partitions that have gone are read by whoever has them now."""
        mine = {(each.topic, each.partition) for each in consumer.assignment()}
        for (topic, partition), offset in firsts.items():
            if (topic, partition) in mine:
                try:
                    consumer.seek(TopicPartition(topic, partition, offset))
                except KafkaException as exception:
                    self._troubled(in_words(error_of(exception)))

    def _tell(self, error: Any) -> bool:
        """An error instead of a record: a topic that does not exist, or a broker that does not answer."""
        self._status.trouble = in_words(error)
        self._status.waits(f"records of {', '.join(self._bindings.topics)}")
        return False

    def _troubled(self, message: str) -> None:
        self._status.trouble = message


def _firsts(records: list[Any]) -> dict[tuple[str, int], int]:
    firsts: dict[tuple[str, int], int] = {}
    for record in records:
        firsts.setdefault((record.topic(), record.partition()), record.offset())
    return firsts


def _letter(source: Source, timestamp_ms: int, bad: BadRecord) -> DeadLetter:
    headers = tuple(RecordHeader(name, value) for name, value in source.headers)
    at = time.time_ns() // 1_000
    return DeadLetter(
        source.topic, source.partition, source.offset, timestamp_ms, bad.reason, str(bad), at, source.key, source.value, headers
    )


def _produce(producer: Producer, topic: str, value: bytes, key: str | bytes | None, headers: Any) -> None:
    while True:
        try:
            producer.produce(topic, value, key, headers=headers)
        except BufferError:
            producer.poll(0.01)
        else:
            return
