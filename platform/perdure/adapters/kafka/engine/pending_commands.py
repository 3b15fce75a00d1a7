"""Decodes records into commands. A record that is not a valid command is set aside, and becomes a
dead letter in the same transaction.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE

from perdure.adapters.kafka.headers import headers_of
from perdure.adapters.kafka.padding import is_padding
from perdure.codec.avro import COMMANDS, HEADER
from perdure.errors import UndecodableRecord

if TYPE_CHECKING:
    from confluent_kafka import Message

    from perdure.model.commands import AnyCommand

BATCH_BYTES: Final = 8 * 1024 * 1024
"""Commands of one batch, so that no record it causes grows beyond what Kafka takes."""


@dataclass(frozen=True, slots=True)
class DeadLettered:
    """A record that cannot be processed.

    Attributes:
        reason: one word, as in `model.dead_letters.DeadLetter`.
        message: for people.
        is_cut: a letter with all of the record is too large.
    """

    reason: str
    message: str
    is_cut: bool = False


class Padding:
    """A record that stands for an offset without one, in a mirrored topic."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Rerouted:
    """A command on the wrong partition: the producer has another partitioner."""

    workflow_id: str
    partition: int


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A command of this process for a partition of another engine."""

    command: AnyCommand
    partition: int


Aside = DeadLettered | Padding | Rerouted | Forwarded
Entry = tuple[Any, int, int, "Message | None"]
"""A command or an `Aside`; the partition and the offset where it was found, -1 for one of this
process; its record."""

_ASIDES: Final = frozenset({DeadLettered, Padding, Rerouted})


class PendingCommands:
    """Pending commands: decoded and not yet committed, in order.

    Args:
        partition_of: the partition of a workflow id.

    Attributes:
        asides: taken, to be written with the open transaction.
        covered: by partition, the offset after the last command taken since the last commit.
    """

    def __init__(self, partition_of: Callable[[str], int]) -> None:
        self._partition_of = partition_of
        self._expected: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._ready: deque[Entry] = deque()
        self._taken: list[Entry] = []
        self._taken_bytes = 0
        self._careful_left = 0
        self._is_too_large = False
        self.asides: list[Entry] = []
        self.covered: dict[int, int] = {}

    # ---- partitions

    def gain(self, partition: int, offset: int) -> None:
        """Records of the partition are taken from here."""
        self._expected[partition] = self._committed[partition] = offset

    def lose(self, partitions: Collection[int]) -> None:
        """Forget everything of these partitions; no batch is open."""
        for partition in partitions:
            self._expected.pop(partition, None)
            self._committed.pop(partition, None)
            self.covered.pop(partition, None)
        self._ready = deque(entry for entry in self._ready if entry[1] not in partitions)

    @property
    def partitions(self) -> Collection[int]:
        """The partitions whose records are taken."""
        return self._expected.keys()

    def last_offset(self, partition: int) -> int:
        """Of the last command taken, or committed; -1: none."""
        offset = self.covered.get(partition)
        if offset is None:
            offset = self._committed.get(partition, 0)
        return offset - 1

    def offset_of(self, partition: int) -> int:
        """The offset that a transaction commits for the partition."""
        return self.covered.get(partition, self._committed[partition])

    # ---- in

    def put_records(self, records: Iterable[Message]) -> None:
        """Records of the commands topic, without errors. Those of partitions that are not ours
        (yet) or come twice are dropped.
        """
        expected, partition_of, put, decode = (
            self._expected,
            self._partition_of,
            self._ready.append,
            COMMANDS.decode,
        )
        for record in records:
            partition: Any = record.partition()
            offset: Any = record.offset()
            # A partition that is not ours expects nothing: no offset reaches the default.
            if offset < expected.get(partition, 1 << 63):
                continue
            expected[partition] = offset + 1
            what: Any
            try:
                what = decode(_value(record), _schema(record))
                place = partition_of(what.workflow_id)
            except UndecodableRecord as error:
                what = Padding() if is_padding(record) else DeadLettered(error.reason, str(error))
            except Exception as error:  # noqa: BLE001 - whatever is wrong with a record of anybody's, the others are taken
                what = DeadLettered("undecodable", f"{type(error).__name__}: {error}")
            else:
                if place != partition:
                    what = Rerouted(what.workflow_id, place)
            put((what, partition, offset, record))

    def put_local(self, commands: Sequence[AnyCommand]) -> None:
        """Commands of this process."""
        self._ready.extend((command, -1, -1, None) for command in commands)

    # ---- out

    @property
    def has_ready(self) -> bool:
        """Whether commands are ready to be taken."""
        return bool(self._ready)

    @property
    def waiting(self) -> int:
        """Number of commands that are ready."""
        return len(self._ready)

    @property
    def has_taken(self) -> bool:
        """Whether commands were taken since the last commit."""
        return bool(self._taken)

    def take(self, limit: int) -> list[AnyCommand]:
        """The next ones, at most `limit`, within what one transaction should hold. Asides go to
        `asides`.
        """
        ready, taken, covered = self._ready, self._taken, self.covered
        commands: list[AnyCommand] = []
        if self._careful_left:
            # After a transaction that was too large, one command at a time.
            limit = 0 if taken else min(limit, 1)
        while ready and len(commands) < limit and self._taken_bytes < BATCH_BYTES:
            entry = ready.popleft()
            what, partition, offset, record = entry
            taken.append(entry)
            if record is not None:
                covered[partition] = offset + 1
                self._taken_bytes += len(record)
            # A command of this process for a workflow that another engine owns now.
            elif (place := self._partition_of(what.workflow_id)) not in self._expected:
                self.asides.append((Forwarded(what, place), -1, -1, None))
                continue
            if type(what) in _ASIDES:
                self.asides.append(entry)
            else:
                commands.append(what)
        return commands

    def places_of(self, commands: Collection[AnyCommand]) -> dict[int, Entry]:
        """The entries of commands that were taken, by their object's `id`."""
        wanted = {id(command) for command in commands}
        return {id(entry[0]): entry for entry in self._taken if id(entry[0]) in wanted}

    def age_s(self, command: AnyCommand) -> float:
        """Time since the record of a command that was taken was written, seconds, by the clocks of
        two machines; 0 when that is not known.
        """
        for what, _, _, record in self._taken:
            if what is command and record is not None:
                kind, at_ms = record.timestamp()
                return time.time() - at_ms / 1_000 if kind != TIMESTAMP_NOT_AVAILABLE else 0.0
        return 0.0

    def settle(self) -> None:
        """The taken commands are committed."""
        self._committed.update(self.covered)
        self.covered.clear()
        self._taken.clear()
        self.asides.clear()
        self._taken_bytes = 0
        self._careful_left = max(0, self._careful_left - 1)

    def abort(self) -> None:
        """The taken commands are ready again, in order, before newer ones."""
        if self._is_too_large:
            self._is_too_large = False
            self._take_care()
        self._ready.extendleft(reversed(self._taken))
        self.covered.clear()
        self._taken.clear()
        self.asides.clear()
        self._taken_bytes = 0

    def forget(self) -> None:
        """Forget all partitions. Commands of this process are kept."""
        self.abort()
        self.lose([*self._expected])

    def note_too_large(self) -> None:
        """The commands' results are larger than Kafka accepts: after `abort` they are handled one
        by one.
        """
        self._is_too_large = True

    def _take_care(self) -> None:
        """Hand out commands one by one from now on; one that is too large on its own becomes a dead
        letter.
        """
        if self._careful_left and len(self._taken) == 1:
            what, partition, offset, record = self._taken[0]
            why = DeadLettered("oversized", "its results exceed the maximum record size")
            if type(what) is DeadLettered:
                why = DeadLettered(what.reason, what.message, is_cut=True)
            self._taken[:] = [(why, partition, offset, record)] if record is not None else []
        else:
            self._careful_left = len(self._taken)


def _value(record: Message) -> bytes:
    value: bytes | None = cast("Any", record).value()
    if value is None:
        raise UndecodableRecord("undecodable", "a tombstone is not a command")
    return value


def _schema(record: Message) -> bytes | None:
    for name, value in headers_of(record):
        if name == HEADER:
            return value
    return None
