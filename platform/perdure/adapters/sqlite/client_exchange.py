"""Writes commands into a SQLite file that another process owns, and reads its replies; in a
separate thread.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from perdure.adapters.sqlite.faults import fault
from perdure.adapters.sqlite.file import check_format, connect
from perdure.adapters.sqlite.hints import Hints
from perdure.codec.records import decode_reply, encode_command
from perdure.errors import CommitAborted, InfrastructureError
from perdure.model.addresses import Process
from perdure.threads import WatchedThread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from perdure.model.commands import AnyCommand, AwaitWorkflow
    from perdure.model.replies import AnyReply

POLL_S: Final = 0.05
"""A reply is found within this time though its hint was lost, seconds."""


class FileExchange:
    """Exchange between one client and the file.

    Waiting commands are written in one transaction. A request whose answer is awaited is not synced
    to disk: the engine's commit, which precedes the answer, syncs it, too. Other commands are
    synced.

    Args:
        path: the file.
        busy_s: how long to wait for another process's transaction at a time, seconds.
        deliver: called with replies, on the exchange's thread.
        failed: called when the file becomes unusable, on the exchange's thread.

    Attributes:
        address: the `reply_to` of requests.
        awaited: requests that are repeated when the engine was restarted, by request id; the owner
            of the exchange maintains it.
        open_requests: the number of requests without an answer; while it is 0, the exchange does
            not look for replies.
        fault: why writing fails at the moment; None: it works.
        has_ended: whether the exchange has ended; `fault` says why.
    """

    def __init__(
        self,
        path: Path,
        busy_s: float,
        deliver: Callable[[Sequence[AnyReply]], None],
        failed: Callable[[InfrastructureError], None],
    ) -> None:
        self._path = path
        self._busy_s = busy_s
        self._deliver = deliver
        self._failed = failed
        self._hints = Hints()
        self.address = str(Process(self._hints.port, uuid4().hex))
        self.awaited: dict[str, AwaitWorkflow] = {}
        self.open_requests = 0
        self.fault: InfrastructureError | None = None
        self.has_ended = False
        self._outbox: deque[AnyCommand] = deque()
        self._is_closing = False
        self._epoch = 0
        self._position = 0
        self._data_version = -1
        self._thread = WatchedThread(target=self._run, name="perdure-client")
        self._thread.start()

    def send(self, commands: Sequence[AnyCommand]) -> None:
        """Write commands; any thread may call this."""
        self._outbox.extend(commands)
        self._hints.give(self._hints.port)

    def close(self) -> None:
        """Write the waiting commands, if possible, and end; blocks until then."""
        self._is_closing = True
        self._hints.give(self._hints.port)
        self._thread.join()
        self._hints.close()

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        try:
            connection = self._connected()
            while True:
                is_last = self._is_closing
                self._write(connection)
                self._read(connection)
                if is_last:
                    break
                if self._outbox and self.fault is None:
                    continue
                self._hints.wait(POLL_S if self.open_requests or self.fault is not None else None)
        except sqlite3.Error as error:
            self._fail(fault(error, self._path))
        except InfrastructureError as error:
            self._fail(error)
        finally:
            if connection is not None:
                connection.close()

    def _fail(self, error: InfrastructureError) -> None:
        self.fault = error
        self.has_ended = True
        self._failed(error)

    def _connected(self) -> sqlite3.Connection:
        connection = connect(self._path, self._busy_s, mode="rw")
        try:
            check_format(connection, self._path)
            connection.execute("PRAGMA wal_autocheckpoint = 0")  # the engine's business
            (self._epoch,) = connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
            (self._position,) = connection.execute(
                "SELECT coalesce(max(position), 0) FROM replies"
            ).fetchone()
        except BaseException:
            connection.close()
            raise
        return connection

    def _write(self, connection: sqlite3.Connection) -> None:
        commands = list(self._outbox)
        if not commands:
            return
        is_awaited = all(getattr(command, "reply_to", "") for command in commands)
        try:
            connection.execute(f"PRAGMA synchronous = {'NORMAL' if is_awaited else 'FULL'}")
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO commands (record) VALUES (?)",
                [(encode_command(command),) for command in commands],
            )
            connection.execute("COMMIT")
            (port,) = connection.execute("SELECT value FROM meta WHERE key = 'port'").fetchone()
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.rollback()
            found = fault(error, self._path)
            if not isinstance(found, CommitAborted):
                raise found from error
            self.fault = found
            return
        self.fault = None
        for _ in commands:
            self._outbox.popleft()
        self._hints.give(port)

    def _read(self, connection: sqlite3.Connection) -> None:
        if not self.open_requests:
            return
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version == self._data_version:
            return
        self._data_version = version
        rows = connection.execute(
            "SELECT position, record FROM replies WHERE position > ? AND reply_to = ? ORDER BY position",
            (self._position, self.address),
        ).fetchall()
        if rows:
            self._position = rows[-1][0]
            self._deliver([decode_reply(record) for _, record in rows])
        (epoch,) = connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        if epoch != self._epoch:
            self._epoch = epoch
            self._outbox.extend(self.awaited.copy().values())
