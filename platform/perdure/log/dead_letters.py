"""Dead letters, for operators: which records could not be taken, and what becomes of them.

`perdure dead-letters` is thin over this. Those of Kafka are in `log/kafka/dead_letters.py`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import msgspec

from perdure.codec.records import decode_command, decode_headers
from perdure.errors import UsageError
from perdure.log.rows import insert_record
from perdure.medium.faults import fault
from perdure.medium.sqlite import BUSY_S, check_format, connect, path_of, see_that_it_exists
from perdure.model.dead_letters import DeadLetter, RecordHeader
from perdure.triggers.binding import Source
from perdure.triggers.offering import first_source, offered_headers

_WITH_TIME: Final = "SELECT position, record, reason, found_at FROM dead_letters ORDER BY position"
_WITHOUT: Final = "SELECT position, record, reason, 0 FROM dead_letters ORDER BY position"


@dataclass(frozen=True, slots=True)
class OpenLetter:
    """A dead letter that is neither retried nor dropped.

    Attributes:
        id: what `retry` and `drop` know it by.
        letter: what it is.
    """

    id: str
    letter: DeadLetter


class DeadLetters(Protocol):
    """Those of one platform."""

    def open(self) -> list[OpenLetter]:
        """Those that are neither retried nor dropped, oldest first."""
        ...

    def fault_of(self, letter: OpenLetter) -> str:
        """Why it would be of no use to retry it now; empty when it may go well."""
        ...

    def retry(self, letters: Sequence[OpenLetter]) -> None:
        """Put them back where they came from, and forget them; all or none."""

    def drop(self, letters: Sequence[OpenLetter]) -> None:
        """Forget them; all or none."""


class SqliteDeadLetters:
    """`DeadLetters` of a SQLite file: rows of a table, beside a platform that runs or not.

    Args:
        url: `sqlite:///app.db`.

    Raises:
        InfrastructureError: there is no such file.
    """

    def __init__(self, url: str) -> None:
        self._path = path_of(url)
        see_that_it_exists(self._path)

    def open(self) -> list[OpenLetter]:
        """Oldest first."""
        return [
            OpenLetter(_id_of(position), _letter(position, record, reason, found_at))
            for position, record, reason, found_at in self._run(_read)
        ]

    def fault_of(self, letter: OpenLetter) -> str:
        """Why it would be of no use to retry it now; empty when it may go well."""
        if _position_of(letter.id) < 0:
            return ""
        try:
            decode_command(letter.letter.value or b"")
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it
            return f"it still cannot be read ({error}); deploy the perdure that wrote it, or drop it"
        return ""

    def retry(self, letters: Sequence[OpenLetter]) -> None:
        """Back to the commands, behind those that are there."""
        self._run(partial(_end, letters=letters, is_retried=True))

    def drop(self, letters: Sequence[OpenLetter]) -> None:
        """Forget them."""
        self._run(partial(_end, letters=letters, is_retried=False))

    def _run(self, work: Any) -> Any:
        try:
            connection = connect(self._path, BUSY_S, mode="rw")
            try:
                check_format(connection, self._path)
                connection.execute("BEGIN IMMEDIATE")
                found = work(connection)
                connection.execute("COMMIT")
                return found
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise fault(error, self._path) from error


def _id_of(position: int) -> str:
    """Records of others have negative positions; on a command line those would be options."""
    return f"r{-position}" if position < 0 else str(position)


def _position_of(letter_id: str) -> int:
    return -int(letter_id[1:]) if letter_id.startswith("r") else int(letter_id)


def _read(connection: sqlite3.Connection) -> list[Any]:
    has_time = any(row[1] == "found_at" for row in connection.execute("PRAGMA table_info(dead_letters)"))
    return connection.execute(_WITH_TIME if has_time else _WITHOUT).fetchall()


def _end(connection: sqlite3.Connection, letters: Sequence[OpenLetter], *, is_retried: bool) -> None:
    for letter in letters:
        row = connection.execute(
            "DELETE FROM dead_letters WHERE position = ? RETURNING record", (_position_of(letter.id),)
        ).fetchone()
        if row is None:
            raise UsageError(f"dead letter {letter.id} is not there any more; somebody else has retried or dropped it")
        if is_retried and _position_of(letter.id) < 0:
            _offer(connection, -_position_of(letter.id))
        elif is_retried:
            connection.execute("INSERT INTO commands (record) VALUES (?)", row)


def _offer(connection: sqlite3.Connection, position: int) -> None:
    """Offer a record to the triggers once more, under its first place: what it has led to already is not done again."""
    found = connection.execute("SELECT topic, key, value, headers FROM records WHERE position = ?", (position,)).fetchone()
    if found is None:
        raise UsageError(f"record {position} is not there any more: drop its dead letter")
    topic, key, value, headers = found
    source = first_source(Source(topic, 0, position, key, value, [(each.name, each.value) for each in decode_headers(headers)]))
    kept = [RecordHeader(name, text) for name, text in offered_headers(source)]
    insert_record(connection, topic, key, value, kept, time.time_ns() // 1_000)


def _letter(position: int, record: bytes, message: str, found_at: int) -> DeadLetter:
    if position < 0:  # of a trigger; its message begins with the topic
        topic = message.partition(", record ")[0]
        return DeadLetter(topic, 0, -position, -1, "refused", message, found_at, None, record)
    return DeadLetter("commands", 0, position, -1, "undecodable", message, found_at, _key_of(record), record)


def _key_of(record: bytes) -> bytes | None:
    """The workflow id, as far as it can be made out."""
    try:
        match msgspec.msgpack.decode(record):
            case [str(), str(workflow_id), *_]:
                return workflow_id.encode(errors="surrogatepass")
            case _:
                return None
    except msgspec.DecodeError:
        return None
