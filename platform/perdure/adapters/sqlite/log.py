"""The log of one machine: a table of commands from other processes, and one transaction a batch."""

from __future__ import annotations

import logging
import sqlite3
import time
from typing import TYPE_CHECKING, Final

from perdure.adapters.process.external_commands import ExternalCommands
from perdure.adapters.sqlite.faults import fault
from perdure.adapters.sqlite.hints import HintListener, is_heard
from perdure.adapters.sqlite.rows import write_batch
from perdure.codec.records import decode_command, decode_task
from perdure.engine.operator_log import ThrottledReport
from perdure.errors import CommitAborted
from perdure.model import addresses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.adapters.process.channel import Channel
    from perdure.adapters.sqlite.file import SqliteFile
    from perdure.engine.ports import Batch, Owner
    from perdure.model.commands import AnyCommand
    from perdure.model.replies import AnyReply

_logger: Final = logging.getLogger("perdure.sqlite")
POLL_S: Final = 0.05
"""Commands of other processes are found within this time though their hint was lost, seconds."""

REPLIES_KEPT_US: Final = 600_000_000
"""How long a reply to another process is kept, microseconds."""

_COMMANDS: Final = "SELECT position, record FROM commands WHERE position > ? ORDER BY position LIMIT ?"
_RECORD: Final = "SELECT 1 FROM records WHERE position = ? AND topic = ?"
_SET_ASIDE: Final = "INSERT INTO dead_letters SELECT position, record, ?, ? FROM commands WHERE position = ?"


class SqliteLog:
    """`engine.ports.Log` on a `SqliteFile`.

    Args:
        file: shared with the store.
        channel: to clients and workers of the process.
    """

    def __init__(self, file: SqliteFile, channel: Channel) -> None:
        self._file = file
        self._channel = channel
        self._outside = ExternalCommands(channel)
        self._listener: HintListener | None = None
        self._data_version = -1
        self._has_more = False
        self._replies_swept_at = 0
        self._report = ThrottledReport(_warn)

    def open(self, owner: Owner | None = None) -> None:
        """Take ownership, and deliver the tasks that have not ended."""
        if self._listener is not None:
            return
        self._file.open()
        self._listener = HintListener(self._channel.wake)
        self._outside.forget()
        self._data_version = -1
        try:
            with self._file.transaction() as connection:
                connection.execute("UPDATE meta SET value = ? WHERE key = 'port'", (self._listener.port,))
            rows = self._file.connection.execute("SELECT record FROM tasks").fetchall()
        except BaseException:
            self.close()
            raise
        tasks = sorted((decode_task(row[0]) for row in rows), key=lambda task: task.scheduled_at)
        self._channel.begin()
        self._channel.deliveries.deliver_tasks([task for task in tasks if task.queue])
        if owner is not None:
            owner.partitions_gained((0,))

    def take(self, limit: int, timeout_s: float) -> list[AnyCommand]:
        """The next commands."""
        channel = self._channel
        if limit <= 0:
            channel.wait_for_more(timeout_s)
            return []
        self._look_outside(limit)
        until = time.monotonic() + timeout_s
        while True:
            left_s = until - time.monotonic()
            is_woken = channel.wait(min(left_s, POLL_S))
            if is_woken or left_s > 0:
                self._look_outside(limit)
            if is_woken or left_s <= POLL_S:
                return self._outside.take(limit)

    def input_of(self, workflow_id: str) -> tuple[int, int]:
        """Commands of this process have no offset."""
        return -1, -1

    def commit(self, batch: Batch) -> None:
        """Commit a batch in one transaction, or in none if there is nothing to store."""
        elsewhere = [each for each in batch.replies if type(addresses.parse(each[0])) is addresses.Process]
        consumed = self._outside.consumed()
        if consumed or elsewhere or _keeps_anything(batch):
            with self._file.transaction() as connection:
                letters = [(self._outside.position_of(each.command), each) for each in batch.letters]
                write_batch(
                    connection,
                    batch,
                    consumed,
                    elsewhere,
                    self._stale_before(batch.at) if elsewhere else 0,
                    letters,
                )
            self._file.latest_at = max(self._file.latest_at, batch.at)
        if batch.commands:
            self._has_more = True  # the data version tells of other connections' writes only
        self._outside.settle()
        self._channel.deliveries.deliver(batch)
        if elsewhere:
            self._hint(elsewhere)

    def can_answer(self, address: str, command: AnyCommand) -> bool:
        """Whether a client waits for replies at the address."""
        match addresses.parse(address):
            case addresses.Process(port):
                return is_heard(port)
            case addresses.DeadLetter(topic, _, offset):
                return self._has_record(topic, offset)
            case addresses.Workflow():
                return True
            case _:
                return self._channel.deliveries.has_subscriber(address)

    def _has_record(self, topic: str, position: int) -> bool:
        """Whether the record is there whose dead letter a refusal becomes."""
        try:
            found = self._file.connection.execute(_RECORD, (position, topic)).fetchone()
        except sqlite3.Error:
            return True  # the commit, which follows, says what is wrong with the file
        return found is not None

    def abort(self) -> None:
        """Hand out again what was taken."""
        self._outside.abort()

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        """From any thread."""
        self._channel.submit(commands)

    def wake(self) -> None:
        """From any thread."""
        self._channel.wake()

    def close(self) -> None:
        """Give up ownership."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            self._file.close()
            self._channel.end()

    def _look_outside(self, limit: int) -> None:
        """Read the commands that other processes wrote since the last check; if there are none,
        this costs one pragma.
        """
        room = self._outside.room(limit)
        if room <= 0:
            return
        try:
            (version,) = self._file.connection.execute("PRAGMA data_version").fetchone()
            if version != self._data_version or self._has_more:
                rows = self._file.connection.execute(_COMMANDS, (self._outside.position, room)).fetchall()
                self._outside.put(self._decoded(rows))
                self._data_version = version
                self._has_more = len(rows) == room
        except sqlite3.Error as error:
            found = fault(error, self._file.path)
            if not isinstance(found, CommitAborted):
                raise found from error
        except CommitAborted:  # the next look may succeed; if not, a commit is going to say so
            return

    def _decoded(self, rows: list[tuple[int, bytes]]) -> list[tuple[int, AnyCommand]]:
        commands: list[tuple[int, AnyCommand]] = []
        unreadable: list[tuple[str, int, int]] = []
        for position, record in rows:
            try:
                commands.append((position, decode_command(record)))
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it must not stop the others
                unreadable.append((f"{type(error).__name__}: {error}", time.time_ns() // 1_000, position))
        for reason, _, position in unreadable:
            self._report(
                f"command {position} cannot be read: {reason}; it has become a dead letter (undecodable)"
            )
        if unreadable:
            with self._file.transaction() as connection:
                connection.executemany(_SET_ASIDE, unreadable)
                connection.executemany(
                    "DELETE FROM commands WHERE position = ?", [(position,) for _, _, position in unreadable]
                )
        return commands

    def _stale_before(self, at: int) -> int:
        """Replies older than this may go; 0 when it is not yet time to look."""
        if at - self._replies_swept_at < REPLIES_KEPT_US // 10:
            return 0
        self._replies_swept_at = at
        return at - REPLIES_KEPT_US

    def _hint(self, replies: list[tuple[str, AnyReply]]) -> None:
        if self._listener is not None:
            found = {addresses.parse(address) for address, _ in replies}
            for port in {each.port for each in found if isinstance(each, addresses.Process)}:
                self._listener.give(port)


def _warn(message: str, /, **where: str | int) -> None:
    _logger.warning("%s", message, extra=where)


def _keeps_anything(batch: Batch) -> bool:
    return bool(
        batch.letters
        or batch.commands
        or batch.events
        or batch.states
        or batch.records
        or batch.streams
        or batch.closed
        or batch.removed
        or batch.tasks
        or batch.tasks_ended
        or batch.timers
        or batch.timers_ended
    )
