"""Writes dead letters in the open transaction: commands, tasks and records that cannot go where
they belong.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from perdure.adapters.kafka.engine.author_records import NO_TOPIC
from perdure.adapters.kafka.engine.pending_commands import DeadLettered
from perdure.adapters.kafka.engine.producing import produce
from perdure.adapters.kafka.headers import headers_left
from perdure.adapters.kafka.letters import bare, encode_letter
from perdure.codec.avro import COMMANDS, DEAD_LETTERS, TASKS
from perdure.model.dead_letters import DeadLetter, RecordHeader
from perdure.model.described import clean

if TYPE_CHECKING:
    from confluent_kafka import Producer

    from perdure.adapters.kafka.engine.pending_commands import Entry
    from perdure.adapters.kafka.namespace.layout import Layout
    from perdure.adapters.kafka.status import Status
    from perdure.engine.ports import RefusedCommand
    from perdure.model import addresses
    from perdure.model.events import RecordProduced
    from perdure.model.replies import Refused
    from perdure.model.tasks import Task


class LetterWriter:
    """Writes dead letters.

    Args:
        layout: where to.
        status: counts and reports them.
    """

    def __init__(self, layout: Layout, status: Status) -> None:
        self._layout = layout
        self._status = status

    def of_command(self, producer: Producer, refused: RefusedCommand, entry: Entry | None, at: int) -> None:
        """Write a command that its batch failed on.

        Args:
            producer: in a transaction.
            refused: the command, and why.
            entry: the record that it was, if it was one.
            at: when it was found, microseconds.
        """
        self._write(producer, _letter_of(self._layout.commands, refused, entry, at))

    def of_entry(
        self, producer: Producer, partition: int, offset: int, why: DeadLettered, record: Any
    ) -> None:
        """Write a record that is no valid command."""
        self._write(producer, _letter(self._layout.commands, partition, offset, why, record))

    def of_task(self, producer: Producer, topic: str, task: Task) -> None:
        """Write a task whose queue has no topic."""
        self._status.counts.undeliverable += 1
        self._status.report_letter(
            f"task queue {task.queue!r} has no topic {topic} (perdure topics apply): its tasks become dead "
            "letters"
        )
        header = RecordHeader(*TASKS.header)
        message = f"topic {topic} does not exist"
        letter = DeadLetter(
            topic,
            -1,
            -1,
            timestamp_ms=-1,
            reason=NO_TOPIC,
            message=message,
            found_at=time.time_ns() // 1000,
            key=None,
            value=TASKS.encode(task),
            headers=(header,),
        )
        self._write(producer, letter)

    def of_record(
        self, producer: Producer, workflow_id: str, record: RecordProduced, fault: tuple[str, str]
    ) -> None:
        """Write a record of workflow code that its topic cannot accept.

        Args:
            producer: in a transaction.
            workflow_id: whose code produced it.
            record: what it produced.
            fault: reason and message.
        """
        reason, message = fault
        message = f"workflow {workflow_id!r} produced it; {message}"
        self._status.counts.undeliverable += 1
        self._status.report_letter(
            f"a record for topic {record.topic}: {message}; it is in {self._layout.dead_letters} ({reason})"
        )
        letter = DeadLetter(
            record.topic,
            -1,
            -1,
            timestamp_ms=-1,
            reason=reason,
            message=message,
            found_at=time.time_ns() // 1000,
            key=record.key,
            value=record.value,
            headers=record.headers,
        )
        self._write(producer, letter)

    def of_refusal(self, producer: Producer, place: addresses.DeadLetter, refused: Refused) -> None:
        """A record of a trigger has led to a command that cannot be done. A start that was done
        before is no fault.
        """
        if refused.code == "already_started":
            return
        topic, partition, offset = place.topic, place.partition, place.offset
        message = f"the resulting command was refused: {refused.message}"
        self._status.report_letter(
            f"{topic}, partition {partition}, offset {offset}: {message}; it is in "
            f"{self._layout.dead_letters}"
        )
        letter = DeadLetter(
            topic,
            partition,
            offset,
            timestamp_ms=-1,
            reason="refused",
            message=message,
            found_at=time.time_ns() // 1000,
            key=None,
            value=None,
        )
        self._write(producer, letter)

    def _write(self, producer: Producer, letter: DeadLetter) -> None:
        value, key = encode_letter(letter)
        produce(producer, self._layout.dead_letters, value, key, -1, [DEAD_LETTERS.header])


def _letter_of(commands: str, refused: RefusedCommand, entry: Entry | None, at: int) -> DeadLetter:
    """The letter of a command; as the record it was, when it was one."""
    if entry is not None and entry[3] is not None:
        _, partition, offset, record = entry
        return _letter(
            commands,
            partition,
            offset,
            DeadLettered(refused.reason, refused.message, refused.is_bare),
            record,
        )
    value: bytes | None = None
    if not refused.is_bare:
        with suppress(Exception):  # of this process, which may put anything into a command
            value = COMMANDS.encode(refused.command)
    header = RecordHeader(*COMMANDS.header)
    return DeadLetter(
        commands,
        -1,
        -1,
        timestamp_ms=-1,
        reason=refused.reason,
        message=clean(refused.message),
        found_at=at,
        key=None,
        value=value,
        headers=(header,),
    )


def _letter(topic: str, partition: int, offset: int, why: DeadLettered, record: Any) -> DeadLetter:
    headers = tuple(RecordHeader(name, value) for name, value in headers_left(record))
    timestamp_ms = record.timestamp()[1]
    letter = DeadLetter(
        topic,
        partition,
        offset,
        timestamp_ms=timestamp_ms,
        reason=why.reason,
        message=why.message,
        found_at=time.time_ns() // 1000,
        key=record.key(),
        value=record.value(),
        headers=headers,
    )
    return bare(letter) if why.is_cut else letter
