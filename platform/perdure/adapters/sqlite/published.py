"""Topics of others on one machine: records in the SQLite file, and the triggers that take them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from perdure.adapters.sqlite.faults import fault
from perdure.adapters.sqlite.file import BUSY_S, check_format, connect, path_of, require_exists
from perdure.adapters.sqlite.rows import insert_record
from perdure.codec.records import decode_headers, encode_command
from perdure.engine.operator_log import ThrottledReport
from perdure.errors import InfrastructureError
from perdure.model.dead_letters import RecordHeader
from perdure.model.described import clean
from perdure.triggers.binding import Source
from perdure.triggers.decoding import BadRecord
from perdure.triggers.offering import first_source

if TYPE_CHECKING:
    from pathlib import Path

    from perdure.engine.operator_log import Report
    from perdure.triggers.binding import Bindings

TAKEN: Final = "records_taken"
"""In the table `meta`: up to which position triggers have taken records."""
BATCH: Final = 500


def publish_record(
    url: str, topic: str, key: bytes | None, value: bytes, headers: Sequence[tuple[str, bytes]]
) -> None:
    """Write a record durably.

    Args:
        url: `sqlite:///app.db`.
        topic: its topic.
        key: of the record.
        value: of the record.
        headers: of the record.

    Raises:
        InfrastructureError: there is no such file, or it cannot be written.
    """
    path = path_of(url)
    require_exists(path)
    try:
        connection = connect(path, BUSY_S, mode="rw")
        try:
            check_format(connection, path)
            kept = [RecordHeader(name, text) for name, text in headers]
            insert_record(connection, topic, key, value, kept, time.time_ns() // 1_000)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise fault(error, path) from error


class PublishedRecords:
    """Turns rows of the table `records` into commands, and advances the read position, in one
    transaction. For one thread.

    Args:
        path: the file.
        bindings: of the app.
        report: receives messages about invalid records.
    """

    def __init__(self, path: Path, bindings: Bindings, report: Report) -> None:
        self._path = path
        self._bindings = bindings
        self._report = ThrottledReport(report)
        self._topics = set(bindings.topics)
        self._connection = connect(path, BUSY_S, mode="rw")
        self._connection.execute("INSERT OR IGNORE INTO meta VALUES (?, 0)", (TAKEN,))
        self._version = -1

    def take(self) -> int:
        """Take the next records; returns their number.

        Raises:
            InfrastructureError: the file cannot be used.
        """
        connection = self._connection
        try:
            (version,) = connection.execute("PRAGMA data_version").fetchone()
            if version == self._version:
                return 0
            found = self._take(connection)
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.rollback()
            raise fault(error, self._path) from error
        if not found:
            self._version = version
        return found

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _take(self, connection: sqlite3.Connection) -> int:
        (taken,) = connection.execute("SELECT value FROM meta WHERE key = ?", (TAKEN,)).fetchone()
        rows = connection.execute(
            "SELECT position, topic, key, value, headers, at FROM records WHERE position > ? ORDER BY "
            "position LIMIT ?",
            (taken, BATCH),
        ).fetchall()
        if not rows:
            return 0
        connection.execute("BEGIN IMMEDIATE")
        for position, topic, key, value, headers, at in rows:
            if topic in self._topics:
                self._one(connection, Source(topic, 0, position, key, value, ()), headers, at)
        connection.execute("UPDATE meta SET value = ? WHERE key = ?", (rows[-1][0], TAKEN))
        connection.execute("COMMIT")
        return len(rows)

    def _one(self, connection: sqlite3.Connection, source: Source, headers: bytes, at: int) -> None:
        try:
            source = replace(source, headers=_pairs(headers))
            if (first := first_source(source)).topic == source.topic:  # anybody can write the header
                source = first
            commands = self._bindings.commands_of(source)
        except BadRecord as bad:
            self._report(
                f"{source.topic}, record {source.offset}: {bad}; it has become a dead letter ({bad.reason})"
            )
            connection.execute(
                "INSERT OR REPLACE INTO dead_letters VALUES (?, ?, ?, ?)",
                (
                    -source.offset,
                    source.value or b"",
                    clean(f"{bad.reason}: {source.topic}, record {source.offset}: {bad}"),
                    at,
                ),
            )
            commands = bad.commands
        connection.executemany(
            "INSERT INTO commands (record) VALUES (?)", [(encode_command(each),) for each in commands]
        )


def _pairs(headers: bytes) -> list[tuple[str, bytes | None]]:
    """Decode the headers. Raises BadRecord if they cannot be read: the row may contain anything."""
    try:
        return [(each.name, each.value) for each in decode_headers(headers)]
    except (InfrastructureError, TypeError) as error:
        raise BadRecord("undecodable", f"its headers cannot be read: {error}") from None
