"""The SQLite file that holds log and store of one machine."""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from perdure.adapters.sqlite.faults import fault, is_about_values
from perdure.adapters.sqlite.ownership import Ownership
from perdure.adapters.sqlite.schema import APPLICATION_ID, FORMAT, SCHEMA, UPGRADES
from perdure.adapters.sqlite.typed_views import keep_in_step
from perdure.codec.records import decode_event_record, decode_state
from perdure.core.run import fold
from perdure.errors import InfrastructureError, UsageError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from perdure.codec.columns import Shape

NO_SHAPES: Final[Mapping[str, Shape]] = MappingProxyType({})
BUSY_S: Final = 5.0
"""How long a writer waits for another one, seconds; clients hold the lock for a fraction of a
millisecond."""
_announced: Final = set[Path]()
"""Files that an engine of this process is going to open."""


class SqliteFile:
    """The engine's connection, shared by its log and its store; the process that opens it owns the
    file.

    Belongs to the engine's thread. Opened by each that uses it and closed with the last.

    Args:
        path: the file; made when there is none, its directory is not.
        busy_s: how long to wait for another process's transaction, seconds.
        shapes: the columns of workflow types' views, which become SQL views.
    """

    def __init__(
        self, path: str | Path, busy_s: float = BUSY_S, shapes: Mapping[str, Shape] = NO_SHAPES
    ) -> None:
        self.path = Path(path).absolute()
        self.epoch = 0
        self.latest_at = 0
        self._busy_s = busy_s
        self._shapes = shapes
        self._ownership = Ownership(self.path)
        self._connection: sqlite3.Connection | None = None
        self._users = 0

    @property
    def connection(self) -> sqlite3.Connection:
        """In autocommit mode."""
        if self._connection is None:
            raise InfrastructureError(f"the database {self.path} is closed")
        return self._connection

    def open(self) -> None:
        """Take ownership of the file; if it is open already, add a user.

        Raises:
            InfrastructureError: another process owns it, or it cannot be used; the message says
                what to do.
        """
        if self._users == 0:
            self._ownership.take()
            try:
                self._connect()
            except BaseException:
                self._disconnect()
                raise
        self._users += 1

    def close(self) -> None:
        """Remove a user; the last one gives up ownership."""
        self._users = max(0, self._users - 1)
        if self._users == 0:
            self._disconnect()

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """A transaction: all writes within, or none.

        Raises:
            CommitAborted: nothing was written; a retry may help.
            InfrastructureError: nothing was written, and an operator must act.
            BaseException: raised within the transaction, or because SQLite rejects a value; nothing
                was written.
        """
        connection = self.connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                connection.rollback()
            if isinstance(error, sqlite3.Error) and not is_about_values(error):
                raise fault(error, self.path) from error
            raise

    def _connect(self) -> None:
        is_new = not self.path.exists()
        try:
            if is_new:
                make_private(self.path)
            connection = self._connection = connect(self.path, self._busy_s)
            if is_new or is_empty(connection):
                _create(connection)
            check_format(connection, self.path)
            _upgrade(connection)
            _tune(connection, self.path)
            with self.transaction():
                keep_in_step(connection, self._shapes)
                connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'epoch'")
            meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
        except sqlite3.Error as error:
            raise fault(error, self.path) from error
        self.epoch, self.latest_at = meta["epoch"], meta["latest_at"]

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._ownership.release()


def make_private(path: Path) -> None:
    """Make an empty file that only its owner may read: what callers hand over is in it. SQLite
    gives its other files the same mode.
    """
    with suppress(OSError):  # SQLite says why it cannot be opened
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def path_of(url: str) -> Path:
    """The file that `sqlite:///relative.db` or `sqlite:////absolute.db` names.

    Raises:
        UsageError: it names none.
    """
    name = unquote(url.removeprefix("sqlite:///"))
    if not url.startswith("sqlite:///") or not name:
        raise UsageError(
            f'the address {url!r} does not name a file; write "sqlite:///app.db", or '
            '"sqlite:////var/lib/app.db" for an absolute path'
        )
    return Path(name).absolute()


def announce(path: Path) -> None:
    """Announce that an engine of this process will open the file: a client that connects earlier
    creates a new file.

    Args:
        path: absolute.
    """
    _announced.add(path)


def require_exists(path: Path) -> None:
    """Check that the file exists, for users that do not create it.

    Raises:
        InfrastructureError: there is no such file.
    """
    if path in _announced and not path.exists():
        file = SqliteFile(path)
        file.open()
        file.close()
    elif not path.exists():
        raise InfrastructureError(
            f"no database {path}; start `perdure dev APP --db {path}`, or name an existing database"
        )


def connect(path: Path, busy_s: float, *, mode: str = "rwc") -> sqlite3.Connection:
    """A connection in autocommit mode, for one thread at a time.

    Args:
        path: of the file.
        busy_s: how long to wait for other writers, seconds.
        mode: `ro`, `rw` or `rwc`, as in https://sqlite.org/uri.html.
    """
    return sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        timeout=busy_s,
        isolation_level=None,
        check_same_thread=False,
        uri=True,
    )


def is_empty(connection: sqlite3.Connection) -> bool:
    """Whether the file has no tables yet."""
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return (
        tables == 0
        and _pragma(connection, "application_id") == 0
        and _pragma(connection, "user_version") == 0
    )


def check_format(connection: sqlite3.Connection, path: Path) -> None:
    """Check that the file is a perdure database of a known format.

    Raises:
        InfrastructureError: it is not.
    """
    if _pragma(connection, "application_id") != APPLICATION_ID:
        if is_empty(connection):  # `_connect` is between its two steps, or somebody else made the file
            raise InfrastructureError(
                f"the database {path} is empty: if `perdure dev` is starting, try again; if not, start "
                f"`perdure dev APP --db {path}`, which fills it"
            )
        raise InfrastructureError(f"{path} is a database of another program; name another file")
    if (found := _pragma(connection, "user_version")) > FORMAT:
        raise InfrastructureError(
            f"{path} was written by a newer perdure (format {found}, this version knows {FORMAT}); upgrade "
            "perdure, or name another file"
        )


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in SCHEMA:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")
    connection.execute("COMMIT")


def _upgrade(connection: sqlite3.Connection) -> None:
    found = _pragma(connection, "user_version")
    if found == FORMAT:
        return
    connection.execute("BEGIN IMMEDIATE")
    for older in range(found, FORMAT):
        for statement in UPGRADES[older]:
            connection.execute(statement)
    if found < 4:
        _fill_columns(connection)
    if found < 6:
        _fill_closed(connection)
    connection.execute(f"PRAGMA user_version = {FORMAT}")
    connection.execute("COMMIT")


def _fill_closed(connection: sqlite3.Connection) -> None:
    """Fill the table of closed runs, which format 6 added. A run that is not the last one of its
    workflow id has closed; only its history says when. One that cannot be read stays.
    """
    connection.execute(
        "INSERT INTO closed SELECT type, status, closed_at, run_id, workflow_id, 0 FROM workflows "
        "WHERE closed_at > 0 AND run_id <> ''"
    )
    earlier = connection.execute(
        "SELECT DISTINCT run_id FROM events WHERE run_id NOT IN (SELECT run_id FROM workflows)"
    ).fetchall()
    for (run_id,) in earlier:
        rows = connection.execute(
            "SELECT record FROM events WHERE run_id = ? ORDER BY first_event_id", (run_id,)
        )
        with suppress(ValueError, LookupError, InfrastructureError):
            run = fold(decode_event_record(row[0]) for row in rows.fetchall())
            if run.phase.is_closed:
                found = (run.started.type, str(run.status), run.closed_at, run_id, run.workflow_id)
                connection.execute("INSERT INTO closed VALUES (?, ?, ?, ?, ?, 1)", found)


def _fill_columns(connection: sqlite3.Connection) -> None:
    """Fill the columns that format 4 added."""
    for workflow_id, record in connection.execute("SELECT workflow_id, record FROM workflows").fetchall():
        state = decode_state(record)
        connection.execute(
            "UPDATE workflows SET run_id = ?, updated_at = ?, closed_at = ?, view = ? WHERE workflow_id = ?",
            (state.run_id, state.updated_at, state.closed_at, state.view, workflow_id),
        )


def _tune(connection: sqlite3.Connection, path: Path) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise InfrastructureError(
            f"{path} is stored where SQLite cannot use a write-ahead log (a network drive?); name a file on "
            "a local disk"
        )
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 4000")
    connection.execute("PRAGMA cache_size = -16384")
    connection.execute("PRAGMA temp_store = MEMORY")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    assert isinstance(value, int)
    return value
