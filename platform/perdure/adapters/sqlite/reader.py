"""Public reads of a SQLite file, from any process and thread."""

from __future__ import annotations

import builtins
import sqlite3
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar

from perdure.adapters.sqlite.faults import fault
from perdure.adapters.sqlite.file import BUSY_S, check_format, connect, require_exists
from perdure.adapters.sqlite.history import history_page
from perdure.adapters.sqlite.listing import counted, listed, state_of
from perdure.client.listing import ListQuery
from perdure.codec.paging import PAGE_EVENTS
from perdure.codec.records import decode_event_record
from perdure.model.streams import PAGE_BYTES, StreamPage, StreamRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from perdure.client.position import Position
    from perdure.model.events import EventRecord
    from perdure.model.replies import History
    from perdure.model.states import WorkflowState

T = TypeVar("T")

_VALUES: Final = """SELECT position, run_id, activity, attempt, number, at, value FROM streams
    WHERE workflow_id = ? AND name = ? AND position > ? ORDER BY position LIMIT ?"""
_TEXT: Final = partial(str, encoding="utf-8", errors="replace")
"""One text that is damaged does not make a whole list unreadable."""
KEPT: Final = 8
"""Connections that wait for the next read."""


class SqliteReader:
    """`client.ports.Reader` on a SQLite file, in any process, whether an engine runs or not.

    Args:
        path: the file; opened with the first read.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path).absolute()
        self._lock = Lock()
        self._free: builtins.list[sqlite3.Connection] = []
        self._is_closed = False

    def state(self, workflow_id: str) -> WorkflowState | None:
        """The state of the workflow id."""
        return self._read(lambda connection: state_of(connection, workflow_id))

    def events(self, workflow_id: str, run_id: str) -> builtins.list[EventRecord]:
        """The history of a run."""
        rows = self._read(
            lambda c: c.execute(
                "SELECT record FROM events WHERE run_id = ? ORDER BY first_event_id", (run_id,)
            ).fetchall()
        )
        records = [decode_event_record(row[0]) for row in rows]
        return records if records and records[0].workflow_id == workflow_id else []

    def history(
        self, workflow_id: str, run_id: str, from_event_id: int = 1, limit: int = PAGE_EVENTS
    ) -> History:
        """A page of the history."""
        return self._read(lambda c: history_page(c, workflow_id, run_id, from_event_id, limit))

    def list(self, query: ListQuery) -> builtins.list[WorkflowState]:
        """A page of workflows."""
        return self._read(lambda connection: listed(connection, query))

    def counts(self, query: ListQuery | None = None) -> dict[tuple[str, str], int]:
        """Number of workflows, by (type, status)."""
        return self._read(lambda connection: counted(connection, query or ListQuery()))

    def stream(self, workflow_id: str, name: str, after: int, limit: int) -> StreamPage:
        """A page of a stream."""
        rows = self._read(lambda c: _page(c.execute(_VALUES, (workflow_id, name, after, limit))))
        values = [
            (
                position,
                StreamRecord(
                    workflow_id,
                    run_id,
                    name,
                    number=number,
                    value=value,
                    at=at,
                    activity=activity,
                    attempt=attempt,
                ),
            )
            for position, run_id, activity, attempt, number, at, value in rows
        ]
        return StreamPage(values, values[-1][0] if values else after)

    def dead_letters(self) -> int:
        """Number of open dead letters."""
        return int(self._read(lambda c: c.execute("SELECT count(*) FROM dead_letters").fetchall())[0][0])

    def wait_for(self, position: Position, timeout_s: float) -> bool:
        """Nothing to wait for: every read sees all that was answered before it."""
        return True

    def close(self) -> None:
        """Close the connections; one in use is closed when its read has ended."""
        with self._lock:
            self._is_closed = True
            free, self._free = self._free, []
        for connection in free:
            connection.close()

    def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Read in a separate connection: a long read blocks no other, and in WAL mode no writer."""
        connection: sqlite3.Connection | None = None
        try:
            with self._lock:
                connection = self._free.pop() if self._free else None
            if connection is None:
                connection = self._opened()
            found = query(connection)
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, sqlite3.Error):
                raise fault(error, self._path) from error
            raise
        with self._lock:
            is_kept = not self._is_closed and len(self._free) < KEPT
            if is_kept:
                self._free.append(connection)
        if not is_kept:
            connection.close()
        return found

    def _opened(self) -> sqlite3.Connection:
        require_exists(self._path)
        connection = connect(self._path, BUSY_S, mode="ro")
        connection.text_factory = _TEXT
        try:
            check_format(connection, self._path)
        except BaseException:
            connection.close()
            raise
        return connection


def _page(rows: Iterable[Any]) -> list[Any]:
    """The values of a page, each last in its row."""
    found: list[Any] = []
    size = 0
    for row in rows:
        found.append(row)
        size += len(row[-1])
        if size > PAGE_BYTES:
            break
    return found
