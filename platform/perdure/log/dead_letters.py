"""Dead letters, for operators: which records could not be taken, and what becomes of them.

`perdure dead-letters` is thin over this. Those of Kafka are in `log/kafka/dead_letters.py`.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import msgspec
from msgspec.structs import replace

from perdure.codec.records import decode_command, decode_headers
from perdure.errors import UsageError
from perdure.log.rows import insert_record
from perdure.medium.faults import fault
from perdure.medium.sqlite import BUSY_S, check_format, connect, path_of, see_that_it_exists
from perdure.model.dead_letters import DeadLetter, RecordHeader
from perdure.triggers.binding import Source
from perdure.triggers.offering import first_source, offered_headers

T = TypeVar("T")

PAGE_LIMIT: Final = 1_000
PREVIEW_BYTES: Final = 1_024
"""Of a value in a list; so much of each of the other parts."""
PREVIEW_HEADERS: Final = 16
MESSAGE_CHARACTERS: Final = 2_000
_ID: Final = re.compile(r"r?[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class OpenLetter:
    """A dead letter that is neither retried nor dropped.

    Attributes:
        id: what `retry` and `drop` know it by.
        letter: what it is; in a list, no more than the beginning of each part.
        size: bytes of the whole value; -1: it was not kept.
    """

    id: str
    letter: DeadLetter
    size: int

    @property
    def is_whole(self) -> bool:
        """Whether the letter has all of the value."""
        return self.size < 0 or self.size == len(self.letter.value or b"")


@dataclass(frozen=True, slots=True)
class LetterPage:
    """Some of them.

    Attributes:
        letters: previews, oldest first.
        next: `after` of the page that follows; empty: there is none.
    """

    letters: list[OpenLetter]
    next: str = ""


class DeadLetters(Protocol):
    """Those of one platform. Each can be read, whatever is wrong with it. Reading keeps no writer waiting."""

    def page(self, limit: int = 100, after: str = "") -> LetterPage:
        """Those that are neither retried nor dropped, oldest first, as previews.

        Args:
            limit: at most so many, up to `PAGE_LIMIT`.
            after: `next` of the page before.

        Raises:
            UsageError: `after` is not from a page.
            InfrastructureError: they cannot be read.
        """
        ...

    def get(self, ids: Sequence[str]) -> list[OpenLetter]:
        """The whole of those of these ids that are open, in this order."""
        ...

    def fault_of(self, letter: OpenLetter) -> str:
        """Why it would be of no use to retry it now; empty when it may go well.

        Args:
            letter: of `get`.
        """
        ...

    def retry(self, letters: Sequence[OpenLetter]) -> None:
        """Put them back where they came from, and forget them; all or none.

        Args:
            letters: of `get`.
        """

    def drop(self, letters: Sequence[OpenLetter]) -> None:
        """Forget them; all or none."""


def pages(letters: DeadLetters, limit: int = 100) -> Iterator[list[OpenLetter]]:
    """All that are open, page by page; those of a page may be retried or dropped before the next one is read."""
    after, is_last = "", False
    while not is_last:
        page = letters.page(limit, after)
        if page.letters:
            yield page.letters
        after, is_last = page.next, not page.next


def preview(id: str, letter: DeadLetter) -> OpenLetter:
    """A letter as a list has it: the beginning of each part."""
    headers = letter.headers[:PREVIEW_HEADERS]
    shown = replace(
        letter,
        message=letter.message[:MESSAGE_CHARACTERS],
        key=_beginning(letter.key),
        value=_beginning(letter.value),
        headers=tuple(RecordHeader(each.name[:PREVIEW_BYTES], _beginning(each.value)) for each in headers),
    )
    return OpenLetter(id, shown, size_of(letter))


def size_of(letter: DeadLetter) -> int:
    """Bytes of its value; -1: it was not kept."""
    return -1 if letter.value is None else len(letter.value)


def _beginning(data: bytes | None) -> bytes | None:
    return None if data is None else data[:PREVIEW_BYTES]


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
        raise UsageError(f"{letter_id[:60]!r} is not the id of a dead letter; `perdure dead-letters list` shows those there are")
    return -int(letter_id[1:]) if letter_id.startswith("r") else int(letter_id)


def _rows(connection: sqlite3.Connection, where: str, *values: int) -> Iterator[tuple[int, Any, Any, Any]]:
    """Position, record, reason and time; one by one, and as bytes, so that text that is damaged can be read, too."""
    has_time = any(row[1] == "found_at" for row in connection.execute("PRAGMA table_info(dead_letters)"))
    columns = f"position, CAST(record AS BLOB), CAST(reason AS BLOB), {'found_at' if has_time else '0'}"
    yield from connection.execute(f"SELECT {columns} FROM dead_letters WHERE {where}", values)  # noqa: S608 - ours


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


def _letter(position: int, record: bytes | None, reason: bytes | None, found_at: Any) -> DeadLetter:
    message = (reason or b"").decode(errors="replace")
    at = found_at if isinstance(found_at, int) else 0
    if position < 0:  # of a trigger; its message begins with the topic
        topic = message.partition(", record ")[0]
        return DeadLetter(topic, 0, -position, -1, "refused", message, at, None, record)
    code, _, rest = message.partition(": ")
    if code not in {"refused", "poisoned"}:
        code, rest = "undecodable", message
    return DeadLetter("commands", 0, position, -1, code, rest, at, _key_of(record or b""), record)


class _Head(msgspec.Struct, array_like=True):
    """What a command begins with; what follows is skipped."""

    kind: str
    workflow_id: str


_head: Final = msgspec.msgpack.Decoder(_Head)


def _key_of(record: bytes) -> bytes | None:
    """The workflow id, as far as it can be made out."""
    try:
        return _head.decode(record).workflow_id.encode(errors="surrogatepass")
    except Exception:  # noqa: BLE001 - whatever is wrong with it
        return None
