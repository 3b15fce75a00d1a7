"""The audit trail in the SQLite file."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from perdure.adapters.sqlite.faults import fault
from perdure.adapters.sqlite.file import BUSY_S, check_format, connect, require_exists
from perdure.ports.audit import KEPT_US, AuditEntry, StoredEntry, encode_entry, read_entry

_TABLE: Final = """CREATE TABLE IF NOT EXISTS audit (position INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    record BLOB NOT NULL)"""


class SqliteAuditTrail:
    """`AuditTrail` in a table of the platform's file, made when it is missing.

    Args:
        path: the file; opened with the first use.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path).absolute()
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def append(self, entries: Sequence[AuditEntry]) -> None:
        """In one transaction."""
        rows = [(entry.at, encode_entry(entry)) for entry in entries]
        with self._lock:
            try:
                connection = self._opened()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    connection.executemany("INSERT INTO audit (at, record) VALUES (?, ?)", rows)
                    connection.execute("COMMIT")
                except BaseException:
                    connection.rollback()
                    raise
            except sqlite3.Error as error:
                raise fault(error, self._path) from error

    def entries(self, limit: int, before: int | None = None) -> list[StoredEntry]:
        """Latest first."""
        with self._lock:
            try:
                rows = (
                    self._opened()
                    .execute(
                        "SELECT position, record FROM audit WHERE position < ? ORDER BY position DESC LIMIT "
                        "?",
                        (before if before is not None else 2**63 - 1, limit),
                    )
                    .fetchall()
                )
            except sqlite3.Error as error:
                raise fault(error, self._path) from error
        return [StoredEntry(number, read_entry(record)) for number, record in rows]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            require_exists(self._path)
            connection = connect(self._path, BUSY_S, mode="rw")
            try:
                check_format(connection, self._path)
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute(_TABLE)
                connection.execute("DELETE FROM audit WHERE at < (SELECT max(at) FROM audit) - ?", (KEPT_US,))
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection
