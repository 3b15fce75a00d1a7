"""Dead letters in the SQLite file: `ports.dead_letters.DeadLetters`."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from perdure.adapters.sqlite.faults import fault
from perdure.adapters.sqlite.file import BUSY_S, check_format, connect, path_of, see_that_it_exists
from perdure.adapters.sqlite.rows import insert_record
from perdure.codec.records import decode_command, decode_headers
from perdure.errors import UsageError
from perdure.model.dead_letters import DeadLetter, RecordHeader
from perdure.ports.dead_letters import (
    LetterPage,
    OpenLetter,
    preview,
    size_of,
)
from perdure.triggers.binding import Source
from perdure.triggers.offering import first_source, offered_headers

T = TypeVar("T")
_ID: Final = re.compile(r"r?[0-9]{1,18}")


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

    def page(self, limit: int = 100, after: str = "") -> LetterPage:
        """Oldest first."""
        begin = _position_of(after) + 1 if after else -(2**63)

        def read(connection: sqlite3.Connection) -> list[OpenLetter]:
            rows = _rows(connection, "position >= ? ORDER BY position LIMIT ?", begin, limit + 1)
            return [preview(_id_of(row[0]), _letter(*row)) for row in rows]

        found = self._read(read)
        return LetterPage(found[:limit], found[limit - 1].id if len(found) > limit else "")

    def get(self, ids: Sequence[str]) -> list[OpenLetter]:
        """The whole of some."""
        positions = [_position_of(each) for each in ids if _ID.fullmatch(each)]

        def read(connection: sqlite3.Connection) -> list[OpenLetter]:
            rows = (row for position in positions for row in _rows(connection, "position = ?", position))
            found = [(_id_of(row[0]), _letter(*row)) for row in rows]
            return [OpenLetter(each, letter, size_of(letter)) for each, letter in found]

        return self._read(read)

    def fault_of(self, letter: OpenLetter) -> str:
        """Why a retry would be useless now; empty: it may succeed."""
        if _position_of(letter.id) < 0:
            return ""
        try:
            decode_command(letter.letter.value or b"")
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it
            return (
                f"it still cannot be read ({error}); deploy the version of perdure that wrote it, or drop it"
            )
        return ""

    def retry(self, letters: Sequence[OpenLetter]) -> None:
        """Back to the commands, behind those that are there."""
        self._run(partial(_end, letters=letters, is_retried=True))

    def drop(self, letters: Sequence[OpenLetter]) -> None:
        """Forget them."""
        self._run(partial(_end, letters=letters, is_retried=False))

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return self._do(work, "ro")

    def _run(self, work: Callable[[sqlite3.Connection], None]) -> None:
        def done(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            work(connection)
            connection.execute("COMMIT")

        self._do(done, "rw")

    def _do(self, work: Callable[[sqlite3.Connection], T], mode: str) -> T:
        try:
            connection = connect(self._path, BUSY_S, mode=mode)
            try:
                check_format(connection, self._path)
                return work(connection)
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise fault(error, self._path) from error


def _id_of(position: int) -> str:
    """Records of others have negative positions; on a command line those would be options."""
    return f"r{-position}" if position < 0 else str(position)


def _position_of(letter_id: str) -> int:
    """Raises UsageError when it is no letter's id."""
    if not _ID.fullmatch(letter_id):
        raise UsageError(
            f"{letter_id[:60]!r} is not the id of a dead letter; see `perdure dead-letters list`"
        )
    return -int(letter_id[1:]) if letter_id.startswith("r") else int(letter_id)


def _rows(connection: sqlite3.Connection, where: str, *values: int) -> Iterator[tuple[int, Any, Any, Any]]:
    """Position, record, reason and time; one by one, and as bytes, so that text that is damaged can
    be read, too.
    """
    has_time = any(row[1] == "found_at" for row in connection.execute("PRAGMA table_info(dead_letters)"))
    columns = f"position, CAST(record AS BLOB), CAST(reason AS BLOB), {'found_at' if has_time else '0'}"
    yield from connection.execute(f"SELECT {columns} FROM dead_letters WHERE {where}", values)  # noqa: S608 - ours


def _end(connection: sqlite3.Connection, letters: Sequence[OpenLetter], *, is_retried: bool) -> None:
    for letter in letters:
        row = connection.execute(
            "DELETE FROM dead_letters WHERE position = ? RETURNING record", (_position_of(letter.id),)
        ).fetchone()
        if row is None:
            raise UsageError(
                f"dead letter {letter.id} no longer exists; another process has retried or dropped it"
            )
        if is_retried and _position_of(letter.id) < 0:
            _offer(connection, -_position_of(letter.id))
        elif is_retried:
            connection.execute("INSERT INTO commands (record) VALUES (?)", row)


def _offer(connection: sqlite3.Connection, position: int) -> None:
    """Offer a record to the triggers once more, under its first place: what it has led to already
    is not done again.
    """
    found = connection.execute(
        "SELECT topic, key, value, headers FROM records WHERE position = ?", (position,)
    ).fetchone()
    if found is None:
        raise UsageError(f"record {position} no longer exists: drop its dead letter")
    topic, key, value, headers = found
    source = first_source(
        Source(topic, 0, position, key, value, [(each.name, each.value) for each in decode_headers(headers)])
    )
    kept = [RecordHeader(name, text) for name, text in offered_headers(source)]
    insert_record(connection, topic, key, value, kept, time.time_ns() // 1_000)


def _letter(position: int, record: bytes | None, reason: bytes | None, found_at: Any) -> DeadLetter:
    message = (reason or b"").decode(errors="replace")
    at = found_at if isinstance(found_at, int) else 0
    if position < 0:  # of a trigger; its message begins with the topic
        topic = message.partition(", record ")[0]
        return DeadLetter(
            topic,
            0,
            -position,
            timestamp_ms=-1,
            reason="refused",
            message=message,
            found_at=at,
            key=None,
            value=record,
        )
    code, _, rest = message.partition(": ")
    if code not in {"refused", "unanswerable", "poisoned"}:
        code, rest = "undecodable", message
    return DeadLetter(
        "commands",
        0,
        position,
        timestamp_ms=-1,
        reason=code,
        message=rest,
        found_at=at,
        key=_key_of(record or b""),
        value=record,
    )


class _Head(msgspec.Struct, array_like=True):
    """The beginning of an encoded command; the rest is skipped."""

    kind: str
    workflow_id: str


_head: Final = msgspec.msgpack.Decoder(_Head)


def _key_of(record: bytes) -> bytes | None:
    """The workflow id, as far as it can be made out."""
    try:
        return _head.decode(record).workflow_id.encode(errors="surrogatepass")
    except Exception:  # noqa: BLE001 - whatever is wrong with it
        return None
