"""The store of one machine: the same file as the log, written in the same transaction, so never
behind it.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Final

from perdure.adapters.sqlite.closed_runs import SqliteClosedRuns
from perdure.adapters.sqlite.faults import fault
from perdure.adapters.sqlite.history import history_page
from perdure.codec.paging import PAGE_EVENTS
from perdure.codec.records import decode_event_record, decode_state, decode_task, hash_of
from perdure.model.timers import Timer, TimerKind

if TYPE_CHECKING:
    from collections.abc import Collection

    from perdure.adapters.sqlite.file import SqliteFile
    from perdure.engine.ports import Batch
    from perdure.model.events import EventRecord
    from perdure.model.replies import History
    from perdure.model.states import WorkflowState
    from perdure.model.tasks import Task

_TIMERS: Final = """SELECT fires_at, run_id, kind, number, workflow_id FROM timers
    WHERE (fires_at, run_id, kind, number, workflow_id) > (?, ?, ?, ?, ?)
    ORDER BY fires_at, run_id, kind, number, workflow_id LIMIT ?"""


_FIRST: Final = -(1 << 63)
_RUNNING: Final = """SELECT workflow_id, run_id, type, started_at FROM workflows
    WHERE status = 'running' AND (type, started_at, workflow_id) > (?, ?, ?) ORDER BY type, started_at,
        workflow_id LIMIT ?"""


class SqliteStore:
    """`engine.ports.Store` on a `SqliteFile`.

    Args:
        file: shared with the log.
    """

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._is_open = False

    def open(self) -> None:
        """See that the file can be read."""
        if not self._is_open:
            self._file.open()
            self._is_open = True

    def apply(self, batch: Batch) -> None:
        """The log's transaction has written it already."""
        assert not batch.events or self._file.latest_at >= batch.at, "the batch has been committed"

    def state(self, workflow_id: str) -> WorkflowState | None:
        """The state of the workflow id."""
        rows = self._rows("SELECT record FROM workflows WHERE workflow_id = ?", (workflow_id,))
        return decode_state(rows[0][0]) if rows else None

    def events(self, workflow_id: str, run_id: str) -> list[EventRecord]:
        """The history of a run."""
        rows = self._rows("SELECT record FROM events WHERE run_id = ? ORDER BY first_event_id", (run_id,))
        records = [decode_event_record(row[0]) for row in rows]
        return records if records and records[0].workflow_id == workflow_id else []

    def page(self, workflow_id: str, run_id: str, from_event_id: int, limit: int = PAGE_EVENTS) -> History:
        """A page of the history."""
        try:
            return history_page(self._file.connection, workflow_id, run_id, from_event_id, limit)
        except sqlite3.Error as error:
            raise fault(error, self._file.path) from error

    def last_hash(self, workflow_id: str, run_id: str) -> bytes:
        """Of the run's last record."""
        rows = self._rows(
            "SELECT record FROM events WHERE run_id = ? ORDER BY first_event_id DESC LIMIT 1", (run_id,)
        )
        return hash_of(rows[0][0]) if rows else b""

    def timers(self, after: Timer | None, limit: int) -> list[Timer]:
        """Timers in their order."""
        key = (
            (0, "", 0, 0, "")
            if after is None
            else (after.fires_at, after.run_id, int(after.kind), after.number, after.workflow_id)
        )
        rows = self._rows(_TIMERS, (*key, limit))
        return [
            Timer(fires_at, run_id, TimerKind(kind), number, workflow_id)
            for fires_at, run_id, kind, number, workflow_id in rows
        ]

    def tasks(self, partitions: Collection[int] = (0,)) -> list[Task]:
        """Tasks that have not ended, oldest first."""
        tasks = [decode_task(row[0]) for row in self._rows("SELECT record FROM tasks", ())]
        return sorted(tasks, key=lambda task: (task.scheduled_at, task.run_id, task.number))

    def suspended(self, partitions: Collection[int] = (0,)) -> list[tuple[str, str]]:
        """Runs that are suspended."""
        states = [
            decode_state(row[0])
            for row in self._rows("SELECT record FROM workflows WHERE status = 'suspended'", ())
        ]
        return sorted((state.workflow_id, state.run_id) for state in states)

    def running(self, partition: int, after: object, limit: int) -> tuple[list[tuple[str, str]], object]:
        """Runs that run, in the order of the index by status."""
        place: Any = after  # what the last page gave; None for the first
        begin: Any = place or ("", _FIRST, "")
        rows = self._rows(_RUNNING, (*begin, limit))
        return [(row[0], row[1]) for row in rows], (rows[-1][2], rows[-1][3], rows[-1][0]) if len(
            rows
        ) == limit else None

    def closed_runs(self) -> SqliteClosedRuns:
        """The index of closed runs."""
        return SqliteClosedRuns(self._rows)

    def latest_at(self) -> int:
        """The `at` of the last batch."""
        return self._file.latest_at

    def close(self) -> None:
        """Close the file."""
        if self._is_open:
            self._is_open = False
            self._file.close()

    def _rows(self, statement: str, values: Any) -> list[Any]:
        try:
            return self._file.connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise fault(error, self._file.path) from error
