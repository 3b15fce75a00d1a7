"""Readers: what everybody may see of a medium, from any thread."""

from __future__ import annotations

import builtins
import sqlite3
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from perdure.client.listing import ListQuery, count, select
from perdure.codec.records import decode_event_record, decode_state
from perdure.medium.faults import fault
from perdure.medium.listing import counted, listed
from perdure.medium.sqlite import BUSY_S, check_format, connect, see_that_it_exists

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.client.position import Position
    from perdure.medium.memory import MemoryMedium
    from perdure.model.events import EventRecord
    from perdure.model.states import WorkflowState


class MemoryReader:
    """`client.ports.Reader` on a `MemoryMedium`."""

    def __init__(self, medium: MemoryMedium) -> None:
        self._medium = medium

    def state(self, workflow_id: str) -> WorkflowState | None:
        """The state of the workflow id."""
        with self._medium.lock:
            return self._medium.written.states.get(workflow_id)

    def events(self, workflow_id: str, run_id: str) -> builtins.list[EventRecord]:
        """The history of a run."""
        with self._medium.lock:
            return [record for record in self._medium.written.events(run_id) if record.workflow_id == workflow_id]

    def list(self, query: ListQuery) -> builtins.list[WorkflowState]:
        """A page of workflows."""
        with self._medium.lock:
            return select(query, self._medium.written.states.values(), query.matches)

    def counts(self, query: ListQuery | None = None) -> dict[tuple[str, str], int]:
        """How many workflows there are, by (type, status)."""
        with self._medium.lock:
            return count(self._medium.written.states.values(), query or ListQuery())

    def dead_letters(self) -> int:
        """How many records could not be taken: none, nothing is encoded here."""
        return 0

    def wait_for(self, position: Position, timeout_s: float) -> bool:
        """Nothing to wait for: every read sees all that was answered before it."""
        return True

    def close(self) -> None:
        """Nothing to let go of."""


class SqliteReader:
    """`client.ports.Reader` on a SQLite file, in any process; reads also while nobody runs it.

    Args:
        path: the file; opened with the first read.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path).absolute()
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None

    def state(self, workflow_id: str) -> WorkflowState | None:
        """The state of the workflow id."""
        rows = self._read(lambda c: c.execute("SELECT record FROM workflows WHERE workflow_id = ?", (workflow_id,)).fetchall())
        return decode_state(rows[0][0]) if rows else None

    def events(self, workflow_id: str, run_id: str) -> builtins.list[EventRecord]:
        """The history of a run."""
        rows = self._read(
            lambda c: c.execute("SELECT record FROM events WHERE run_id = ? ORDER BY first_event_id", (run_id,)).fetchall()
        )
        records = [decode_event_record(row[0]) for row in rows]
        return records if records and records[0].workflow_id == workflow_id else []

    def list(self, query: ListQuery) -> builtins.list[WorkflowState]:
        """A page of workflows."""
        found: builtins.list[WorkflowState] = self._read(lambda connection: listed(connection, query))
        return found

    def counts(self, query: ListQuery | None = None) -> dict[tuple[str, str], int]:
        """How many workflows there are, by (type, status)."""
        found: dict[tuple[str, str], int] = self._read(lambda connection: counted(connection, query or ListQuery()))
        return found

    def dead_letters(self) -> int:
        """How many records could not be taken, and are neither retried nor dropped."""
        return int(self._read(lambda c: c.execute("SELECT count(*) FROM dead_letters").fetchall())[0][0])

    def wait_for(self, position: Position, timeout_s: float) -> bool:
        """Nothing to wait for: every read sees all that was answered before it."""
        return True

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _read(self, query: Callable[[sqlite3.Connection], Any]) -> Any:
        try:
            with self._lock:
                if self._connection is None:
                    see_that_it_exists(self._path)
                    connection = connect(self._path, BUSY_S, mode="ro")
                    try:
                        check_format(connection, self._path)
                    except BaseException:
                        connection.close()
                        raise
                    self._connection = connection
                return query(self._connection)
        except sqlite3.Error as error:
            raise fault(error, self._path) from error
