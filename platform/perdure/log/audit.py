"""The audit trail: what people and programs did to workflows through the HTTP API, kept as long as the platform's own records.

It lies where the platform's records lie: a table of the SQLite file, or the topic `<namespace>.audit` (`log/kafka/audit.py`).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from perdure.medium.faults import fault
from perdure.medium.sqlite import BUSY_S, check_format, connect, see_that_it_exists

PAGE_LIMIT: Final = 1_000
KEPT_US: Final = 400 * 86_400_000_000
"""How long entries are kept: a year, and what it takes to look back at it."""

_TABLE: Final = """CREATE TABLE IF NOT EXISTS audit (position INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL,
    record BLOB NOT NULL)"""


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One action.

    Attributes:
        at: when it was answered, microseconds.
        who: the principal: `key:<id> <name>` or `oidc:<subject>`.
        role: that they had; empty: none.
        action: `start`, `signal`, `cancel`, …: the route's name.
        target: a workflow id, a dead letter's id; empty: none.
        outcome: `done`, `refused` (the answer was no) or `failed` (nobody knows whether it was done).
        status: of the HTTP answer.
        detail: what was asked for besides, and why it was refused; payloads never.
        request_id: of the HTTP request; the log's lines have it, too.
        address: where from.
    """

    at: int
    who: str
    role: str
    action: str
    target: str
    outcome: str
    status: int
    detail: str = ""
    request_id: str = ""
    address: str = ""


class KeptEntry(msgspec.Struct, frozen=True):
    """An entry, and where it lies: greater numbers are later."""

    number: int
    entry: AuditEntry


class AuditTrail(Protocol):
    """Append-only. Any thread may use it; it may wait."""

    def append(self, entries: Sequence[AuditEntry]) -> None:
        """Keep them; durable when this returns.

        Raises:
            InfrastructureError: they are not; the message says what to do.
        """

    def entries(self, limit: int, before: int | None = None) -> list[KeptEntry]:
        """The latest ones, latest first.

        Args:
            limit: at most so many.
            before: of those with a smaller number.

        Raises:
            InfrastructureError: they cannot be read.
        """
        ...

    def close(self) -> None:
        """Idempotent."""


encode_entry: Final = msgspec.json.Encoder().encode
decode_entry: Final = msgspec.json.Decoder(AuditEntry).decode


class MemoryAuditTrail:
    """`AuditTrail` that is gone with the process, as its platform is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[KeptEntry] = []

    def append(self, entries: Sequence[AuditEntry]) -> None:
        """Keep them."""
        with self._lock:
            for entry in entries:
                self._kept.append(KeptEntry(len(self._kept) + 1, entry))

    def entries(self, limit: int, before: int | None = None) -> list[KeptEntry]:
        """Latest first."""
        with self._lock:
            kept = self._kept[: before - 1 if before is not None else None]
        return kept[::-1][:limit]

    def close(self) -> None:
        """Nothing to let go of."""


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

    def entries(self, limit: int, before: int | None = None) -> list[KeptEntry]:
        """Latest first."""
        with self._lock:
            try:
                rows = (
                    self._opened()
                    .execute(
                        "SELECT position, record FROM audit WHERE position < ? ORDER BY position DESC LIMIT ?",
                        (before if before is not None else 2**63 - 1, limit),
                    )
                    .fetchall()
                )
            except sqlite3.Error as error:
                raise fault(error, self._path) from error
        return [KeptEntry(number, read_entry(record)) for number, record in rows]

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            see_that_it_exists(self._path)
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


def read_entry(record: Any) -> AuditEntry:
    """The entry; of one that cannot be read, one that says so, so that the others can be read."""
    try:
        return decode_entry(record)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        detail = f"this entry cannot be read: {error}"
        return AuditEntry(
            at=0, who="", role="", action="unreadable", target="", outcome="unreadable", status=0, detail=detail[:1_000]
        )
