"""Writes a batch, and the records set aside, to Kafka in one transaction."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from perdure.adapters.kafka.engine.author_records import AuthorRecords
from perdure.adapters.kafka.engine.letter_writer import LetterWriter
from perdure.adapters.kafka.engine.pending_commands import DeadLettered, Forwarded, Padding, Rerouted
from perdure.adapters.kafka.engine.producing import produce
from perdure.codec.avro import CANCELLATIONS, COMMANDS, EVENTS, REPLIES, STATE, STREAMS, TASKS
from perdure.engine.ports import RefusedCommand
from perdure.model import addresses
from perdure.model.described import described
from perdure.model.replies import Refused
from perdure.model.tasks import Cancellation

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Producer

    from perdure.adapters.kafka.engine.pending_commands import Entry
    from perdure.adapters.kafka.namespace.layout import Layout
    from perdure.adapters.kafka.status import Status
    from perdure.engine.ports import Batch
    from perdure.model.commands import AnyCommand
    from perdure.model.events import EventRecord, RecordProduced
    from perdure.model.retention import RemovedRun
    from perdure.model.tasks import Task

NOWHERE: Final[Mapping[int, Entry]] = MappingProxyType({})


class BatchWriter:
    """Writes what a transaction holds.

    Args:
        layout: the topics.
        status: counts.

    Attributes:
        ends: by partition, the offset after the last event record of the transaction that was
            written last.
    """

    def __init__(self, layout: Layout, status: Status) -> None:
        self._layout = layout
        self._status = status
        self._task_topics: dict[str, tuple[str, int]] = {}
        self._replies = 0
        self._turn = 0
        self._has_cancellations = self._has_streams = False
        self._places = NOWHERE
        self._author = AuthorRecords(layout)
        self._letters = LetterWriter(layout, status)
        self.ends: dict[int, int] = {}

    def prepare(self, batch: Batch, places: Mapping[int, Entry] = NOWHERE) -> None:
        """Before the transaction begins: find the topics that it concerns. One partition a queue
        and transaction.

        Args:
            batch: what the transaction holds.
            places: where the commands of its letters were found, by their object's `id`.
        """
        self._places = places
        self.ends.clear()
        self._turn += 1
        self._task_topics.clear()
        for task in batch.tasks.values():
            if task.queue and task.queue not in self._task_topics:
                topic = self._layout.tasks(task.queue)
                count = self._layout.count_of(topic)
                self._task_topics[task.queue] = (topic, self._turn % count if count else -1)
        if batch.replies:
            self._replies = self._layout.count_of(self._layout.replies)
        if batch.records:
            self._author.prepare({record.topic for _, record in batch.records})
        self._has_streams = bool(batch.streams) and self._has_topic_of_streams()
        self._has_cancellations = bool(batch.cancelled and self._layout.count_of(self._layout.cancellations))

    def write(self, producer: Producer, batch: Batch) -> None:
        """The records of a batch."""
        for refused in batch.letters:
            self._letters.of_command(producer, refused, self._places.get(id(refused.command)), batch.at)
        self._write_events(producer, batch.events, batch.removed)
        for task in batch.tasks.values():
            if task.queue:
                self.write_task(producer, task)
        topic, encode, headers = self._layout.state, STATE.encode, [STATE.header]
        for workflow_id, state in batch.states.items():
            produce(producer, topic, encode(state), workflow_id, -1, headers)
        for workflow_id in batch.states_ended:
            produce(producer, topic, None, workflow_id, -1, None)
        topic, headers = self._layout.replies, [REPLIES.header]
        for address, reply in batch.replies:
            found = addresses.parse(address)
            if type(found) is addresses.DeadLetter:
                if type(reply) is Refused:
                    self._letters.of_refusal(producer, found, reply)
            elif type(found) is addresses.Caller:
                if found.partition >= self._replies:
                    self._status.counts.undeliverable += 1
                else:
                    produce(producer, topic, REPLIES.encode(reply), address, found.partition, headers)
        topic, headers = self._layout.commands, [COMMANDS.header]
        for command in batch.commands:
            place = self._layout.place_of(command.workflow_id)
            produce(producer, topic, COMMANDS.encode(command), command.workflow_id, place, headers)
        for workflow_id, record in batch.records:
            self._write_author(producer, workflow_id, record)
        if self._has_streams:
            topic, headers = self._layout.streams, [STREAMS.header]
            for value in batch.streams:
                produce(producer, topic, STREAMS.encode(value), value.workflow_id, -1, headers)
        if self._has_cancellations:
            tokens = CANCELLATIONS.encode(Cancellation(tuple(batch.cancelled)))
            produce(producer, self._layout.cancellations, tokens, None, 0, [CANCELLATIONS.header])

    def _has_topic_of_streams(self) -> bool:
        topic = self._layout.streams
        if self._layout.count_of(topic):
            return True
        self._status.report(
            f"topic {topic} does not exist: what runs write to streams is lost until `perdure topics apply`"
        )
        return False

    def write_task(self, producer: Producer, task: Task) -> None:
        """A task to its queue; a dead letter when the queue has no topic."""
        topic, partition = self._task_topics[task.queue]
        if partition >= 0:
            produce(producer, topic, TASKS.encode(task), None, partition, [TASKS.header])
            return
        self._letters.of_task(producer, topic, task)

    def _write_author(self, producer: Producer, workflow_id: str, record: RecordProduced) -> None:
        """Write a record of workflow code to its topic, or a dead letter if the topic cannot accept
        it.
        """
        headers: Any = [(each.name, each.value) for each in record.headers]
        if not (fault := self._author.fault_of(record.topic)):
            partition = -1 if record.key is not None else self._author.any_partition(record.topic)
            produce(
                producer,
                record.topic,
                record.value,
                record.key,
                partition,
                headers,
                self._author.on_delivered,
            )
            return
        self._letters.of_record(producer, workflow_id, record, fault)

    def write_asides(self, producer: Producer, asides: Iterable[Entry]) -> None:
        """Write the records set aside."""
        commands = self._layout.commands
        for what, partition, offset, record in asides:
            match what:
                case Rerouted(workflow_id, place):
                    produce(
                        producer, commands, _any(record).value(), workflow_id, place, _any(record).headers()
                    )
                case Forwarded(command, place):
                    self._write_forwarded(producer, command, place)
                case DeadLettered():
                    self._letters.of_entry(producer, partition, offset, what, record)
                case Padding():
                    pass
                case _:
                    raise AssertionError(what)

    def _write_forwarded(self, producer: Producer, command: AnyCommand, place: int) -> None:
        try:
            value, key = COMMANDS.encode(command), command.workflow_id.encode()
        except Exception as error:  # noqa: BLE001 - of this process, which may put anything into a command
            refused = RefusedCommand(command, "poisoned", described(error), is_bare=True)
            self._letters.of_command(producer, refused, None, time.time_ns() // 1000)
            return
        produce(producer, self._layout.commands, value, key, place, [COMMANDS.header])

    def count(self, asides: Iterable[Entry]) -> None:
        """Count the records set aside, once they are committed."""
        counts = self._status.counts
        for what, partition, offset, _ in asides:
            if type(what) is Rerouted:
                counts.rerouted += 1
            elif type(what) is Forwarded:
                counts.forwarded += 1
            elif type(what) is DeadLettered:
                counts.dead_letters += 1
                self._status.report_letter(
                    f"{self._layout.commands}, partition {partition}, offset {offset}: {what.message}; it "
                    "is in "
                    f"{self._layout.dead_letters} ({what.reason})",
                    topic=self._layout.commands,
                    partition=partition,
                    offset=offset,
                )

    def _write_events(
        self, producer: Producer, events: list[tuple[EventRecord, bytes]], removed: list[RemovedRun]
    ) -> None:
        topic, headers = self._layout.events, [EVENTS.header]
        last: dict[int, int] = {}
        places: list[int] = []
        for index, (record, _) in enumerate(events):
            place = record.input_partition
            if place < 0:
                place = self._layout.place_of(record.workflow_id)
            places.append(place)
            last[place] = index
        gone = {self._layout.place_of(each.run.workflow_id): each for each in removed if each.event_ids}
        # One delivery report for each partition, that of its last event, tells where the
        # transaction ends there; a report for each event would cost a call back into Python.
        tellers = {index for place, index in last.items() if place not in gone}
        for index, (record, encoded) in enumerate(events):
            key = f"{record.workflow_id}/{record.run_id}/{record.first_event_id}"
            on_delivered = self._on_delivered if index in tellers else None
            produce(producer, topic, encoded, key, places[index], headers, on_delivered)
        for each in removed:
            self._write_tombstones(producer, each, gone)

    def _write_tombstones(
        self, producer: Producer, removed: RemovedRun, gone: Mapping[int, RemovedRun]
    ) -> None:
        """A tombstone for the key of each record of a run."""
        run, place = removed.run, self._layout.place_of(removed.run.workflow_id)
        last = removed.event_ids[-1] if gone.get(place) is removed else -1
        for event_id in removed.event_ids:
            on_delivered = self._on_delivered if event_id == last else None
            key = f"{run.workflow_id}/{run.run_id}/{event_id}"
            produce(producer, self._layout.events, None, key, place, None, on_delivered)

    def _on_delivered(self, error: KafkaError | None, record: Any) -> None:
        if error is None:
            self.ends[record.partition()] = record.offset() + 1


def _any(record: Any) -> Any:
    return record
