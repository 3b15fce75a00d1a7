"""Dead letters in the SQLite file: `ports.dead_letters.DeadLetters`."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from perdure.adapters.sqlite.faults import fault
from perdure.adapters.sqlite.file import BUSY_S, check_format, connect, path_of, require_exists
from perdure.adapters.sqlite.ownership import is_owned
from perdure.adapters.sqlite.published import TAKEN
from perdure.adapters.sqlite.rows import REFUSED, insert_record
from perdure.codec.records import decode_command, decode_headers, encode_command
from perdure.errors import UsageError
from perdure.model.dead_letters import DeadLetter, RecordHeader
from perdure.ports.dead_letters import (
    LetterPage,
    OpenLetter,
    Outcome,
    RetriedRecord,
    preview,
    size_of,
    without_client,
)
from perdure.triggers.binding import Source
from perdure.triggers.offering import first_source, offered_headers

T = TypeVar("T")
_ID: Final = re.compile(r"r?[0-9]{1,19}")
_LARGEST: Final = 2**63 - 1
_WORD: Final = re.compile(r"[a-z][a-z_]*")
POLL_INTERVAL_S: Final = 0.02
_OF_RECORD: Final = ", ".join(
    f"(SELECT CAST({column} AS BLOB) FROM records r WHERE r.position = -dead_letters.position)"  # noqa: S608 - ours
    for column in ("topic", "key", "headers")
)


class SqliteDeadLetters:
    """`DeadLetters` of a SQLite file: rows of a table, beside a platform that runs or not.

    Args:
        url: `sqlite:///app.db`.

    Raises:
        InfrastructureError: there is no such file.
    """

    def __init__(self, url: str) -> None:
        self._path = path_of(url)
        require_exists(self._path)

    def page(self, limit: int = 100, after: str = "") -> LetterPage:
        """A page of letters, oldest first."""
        last = _position_of(after) if after else -(2**63)

        def read(connection: sqlite3.Connection) -> list[OpenLetter]:
            rows = _rows(connection, "position > ? ORDER BY position LIMIT ?", last, limit + 1)
            return [preview(_id_of(row[0]), _letter(*row)) for row in rows]

        found = self._read(read)
        return LetterPage(found[:limit], found[limit - 1].id if len(found) > limit else "")

    def get(self, ids: Sequence[str]) -> list[OpenLetter]:
        """The whole of some."""
        positions = [
            _position_of(each) for each in ids if _ID.fullmatch(each) and int(each.lstrip("r")) <= _LARGEST
        ]

        def read(connection: sqlite3.Connection) -> list[OpenLetter]:
            rows = (row for position in positions for row in _rows(connection, "position = ?", position))
            found = [(_id_of(row[0]), _letter(*row)) for row in rows]
            return [OpenLetter(each, letter, size_of(letter)) for each, letter in found]

        return self._read(read)

    def fault_of(self, letter: OpenLetter) -> str:
        """Why a retry cannot succeed now; empty: it may."""
        if _position_of(letter.id) < 0:
            return ""
        try:
            decode_command(letter.letter.value or b"")
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it
            return (
                f"it still cannot be read ({error}); deploy the version of perdure that wrote it, or drop it"
            )
        return ""

    def retry(self, letters: Sequence[OpenLetter]) -> dict[str, RetriedRecord]:
        """Write letters back to the commands, after the existing ones."""
        return self._run(partial(_end, letters=letters, is_retried=True))

    def drop(self, letters: Sequence[OpenLetter]) -> None:
        """Delete letters."""
        self._run(partial(_end, letters=letters, is_retried=False))

    def failed_again(self, retried: Mapping[str, RetriedRecord], within_s: float) -> Outcome:
        """Wait until the process that runs the file, if any, has processed the retried records."""
        until = time.monotonic() + within_s
        while True:
            found = self._read(partial(_outcome, retried=retried))
            if not found.waiting or time.monotonic() > until or not is_owned(self._path):
                return found
            time.sleep(POLL_INTERVAL_S)

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return self._do(work, "ro")

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def done(connection: sqlite3.Connection) -> T:
            connection.execute("BEGIN IMMEDIATE")
            result = work(connection)
            connection.execute("COMMIT")
            return result

        return self._do(done, "rw")

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
    """Parse a letter's id; raises UsageError if it is invalid."""
    number = int(letter_id.removeprefix("r")) if _ID.fullmatch(letter_id) else _LARGEST + 1
    if number > _LARGEST:
        raise UsageError(
            f"{letter_id[:60]!r} is not the id of a dead letter; see `perdure dead-letters list`"
        )
    return -number if letter_id.startswith("r") else number


def _rows(connection: sqlite3.Connection, where: str, *values: int) -> Iterator[tuple[Any, ...]]:
    """Position, record, reason and time, then topic, key and headers of a record of others; one by
    one, and as bytes, so that text that is damaged can be read, too.
    """
    has_time = any(row[1] == "found_at" for row in connection.execute("PRAGMA table_info(dead_letters)"))
    has_records = any(connection.execute("PRAGMA table_info(records)"))
    columns = f"position, CAST(record AS BLOB), CAST(reason AS BLOB), {'found_at' if has_time else '0'}"
    found = _OF_RECORD if has_records else "NULL, NULL, NULL"
    yield from connection.execute(f"SELECT {columns}, {found} FROM dead_letters WHERE {where}", values)  # noqa: S608 - ours


def _outcome(connection: sqlite3.Connection, retried: Mapping[str, RetriedRecord]) -> Outcome:
    """The outcomes of retried records so far. A record was processed when no command that it may
    have caused is left.
    """
    (taken,) = connection.execute(
        "SELECT coalesce(max(value), 0) FROM meta WHERE key = ?", (TAKEN,)
    ).fetchone()
    (first_left,) = connection.execute(
        "SELECT coalesce(min(position), ?) FROM commands", (2**63 - 1,)
    ).fetchone()
    (last_left,) = connection.execute("SELECT coalesce(max(position), 0) FROM commands").fetchone()
    found = Outcome({}, set())
    for letter_id, put in retried.items():
        is_record = letter_id.startswith("r")
        if put.offset > taken or last_left if is_record else put.offset >= first_left:
            found.waiting.add(letter_id)
            continue
        position = _position_of(letter_id) if is_record else put.offset
        for row in _rows(connection, "position = ?", position):
            found.failed[letter_id] = _letter(*row).message
    return found


def _end(
    connection: sqlite3.Connection, letters: Sequence[OpenLetter], *, is_retried: bool
) -> dict[str, RetriedRecord]:
    """End letters. Returns where each record was written; empty when they are dropped."""
    puts: dict[str, RetriedRecord] = {}
    for letter in letters:
        row = connection.execute(
            "DELETE FROM dead_letters WHERE position = ? RETURNING record", (_position_of(letter.id),)
        ).fetchone()
        if row is None:
            raise UsageError(
                f"dead letter {letter.id} no longer exists; another process has retried or dropped it"
            )
        if is_retried and _position_of(letter.id) < 0:
            puts[letter.id] = _offer(connection, -_position_of(letter.id))
        elif is_retried:
            position = connection.execute("INSERT INTO commands (record) VALUES (?)", (_unaddressed(*row),))
            puts[letter.id] = RetriedRecord("commands", 0, position.lastrowid or 0)
    return puts


def _unaddressed(record: bytes) -> bytes:
    """A command without the address of its client, which has its answer or has stopped waiting."""
    command = decode_command(record)
    changed = without_client(command)
    return record if changed is command else encode_command(changed)


def _offer(connection: sqlite3.Connection, position: int) -> RetriedRecord:
    """Offer a record to the triggers again, under its original place, so that commands it has
    already caused are not repeated.
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
    return RetriedRecord(
        topic, 0, insert_record(connection, topic, key, value, kept, time.time_ns() // 1_000)
    )


def _letter(
    position: int,
    record: bytes | None,
    reason: bytes | None,
    found_at: Any,
    topic: bytes | None,
    key: bytes | None,
    headers: bytes | None,
) -> DeadLetter:
    message = (reason or b"").decode(errors="replace")
    at = found_at if isinstance(found_at, int) else 0
    code, _, rest = message.partition(": ")
    if position < 0:  # of a trigger
        if not _WORD.fullmatch(code):  # written by an older version: only the topic stands before it
            code, rest = "refused" if REFUSED in message else "undecodable", message
        return DeadLetter(
            rest.partition(", record ")[0] if topic is None else topic.decode(errors="replace"),
            0,
            -position,
            timestamp_ms=-1,
            reason=code,
            message=rest,
            found_at=at,
            key=key,
            value=record,
            headers=_headers(headers),
        )
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


def _headers(headers: bytes | None) -> tuple[RecordHeader, ...]:
    """As far as they can be read: the row may contain anything."""
    try:
        return decode_headers(headers or b"\x90")
    except Exception:  # noqa: BLE001 - whatever is wrong with them, the letter is shown
        return ()


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
