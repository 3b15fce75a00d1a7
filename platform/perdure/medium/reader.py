"""Readers: what everybody may see of a medium, from any thread."""

from __future__ import annotations

import builtins
import sqlite3
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from perdure.codec.records import decode_event_record, decode_state
from perdure.medium.faults import fault
from perdure.medium.listing import Listing
from perdure.medium.sqlite import BUSY_S, check_format, connect, see_that_it_exists

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.client.ports import Order
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

    def list(
        self,
        *,
        type: str | None = None,
        status: str | None = None,
        started_after: int | None = None,
        started_before: int | None = None,
        order: Order = "newest",
        limit: int = 100,
        after: WorkflowState | None = None,
    ) -> builtins.list[WorkflowState]:
        """Workflows by the start of their last run."""
        is_newest = order == "newest"
        with self._medium.lock:
            states = builtins.list(self._medium.written.states.values())
        states = [
            state
            for state in states
            if (type is None or state.type == type)
            and (status is None or state.status == status)
            and (started_after is None or state.started_at >= started_after)
            and (started_before is None or state.started_at < started_before)
            and (after is None or _is_beyond(state, after, is_newest=is_newest))
        ]
        states.sort(key=_key, reverse=is_newest)
        return states[:limit]

    def counts(self) -> dict[tuple[str, str], int]:
        """How many workflows there are, by (type, status)."""
        found: dict[tuple[str, str], int] = {}
        with self._medium.lock:
            for state in self._medium.written.states.values():
                key = (state.type, str(state.status))
                found[key] = found.get(key, 0) + 1
        return found

    def dead_letters(self) -> int:
        """How many records could not be taken: none, nothing is encoded here."""
        return 0

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

    def list(
        self,
        *,
        type: str | None = None,
        status: str | None = None,
        started_after: int | None = None,
        started_before: int | None = None,
        order: Order = "newest",
        limit: int = 100,
        after: WorkflowState | None = None,
    ) -> builtins.list[WorkflowState]:
        """Workflows by the start of their last run."""
        key = None if after is None else _key(after)
        listing = Listing(type, status, started_after, started_before, order, limit, key)
        return [decode_state(record) for record in self._read(listing.records)]

    def counts(self) -> dict[tuple[str, str], int]:
        """How many workflows there are, by (type, status)."""
        rows = self._read(lambda c: c.execute("SELECT type, status, count(*) FROM workflows GROUP BY status, type").fetchall())
        return {(row[0], row[1]): row[2] for row in rows}

    def dead_letters(self) -> int:
        """How many records could not be taken, and are neither retried nor dropped."""
        return int(self._read(lambda c: c.execute("SELECT count(*) FROM dead_letters").fetchall())[0][0])

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _read(self, query: Callable[[sqlite3.Connection], builtins.list[Any]]) -> builtins.list[Any]:
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


def _key(state: WorkflowState) -> tuple[int, str]:
    return state.started_at, state.workflow_id


def _is_beyond(state: WorkflowState, after: WorkflowState, *, is_newest: bool) -> bool:
    return _key(state) < _key(after) if is_newest else _key(state) > _key(after)
