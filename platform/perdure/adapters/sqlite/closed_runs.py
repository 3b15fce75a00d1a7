"""The closed runs of one machine: the table `closed` of the SQLite file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from perdure.model.retention import ClosedRun

if TYPE_CHECKING:
    from collections.abc import Callable

_KINDS: Final = "SELECT type, status FROM closed WHERE (type, status) > (?, ?) ORDER BY type, status LIMIT 1"
_CLOSED: Final = """SELECT type, status, closed_at, run_id, workflow_id FROM closed
    WHERE type = ? AND status = ? ORDER BY closed_at, run_id LIMIT ?"""
_CLOSED_OF: Final = """SELECT type, status, closed_at, run_id, workflow_id FROM closed
        WHERE workflow_id = :id AND is_earlier
    UNION SELECT type, status, closed_at, run_id, workflow_id FROM workflows
        WHERE workflow_id = :id AND closed_at > 0"""
_EVENT_IDS: Final = "SELECT first_event_id FROM events WHERE run_id = ? ORDER BY first_event_id"


class SqliteClosedRuns:
    """`engine.ports.ClosedRuns` on a SQLite file.

    Args:
        rows: executes a statement with its values.
    """

    def __init__(self, rows: Callable[[str, Any], list[Any]]) -> None:
        self._rows = rows

    def kinds(self, before: int) -> list[tuple[str, str]]:
        """Types and statuses of closed runs; one seek in the index for each."""
        found: list[tuple[str, str]] = []
        rows = self._rows(_KINDS, ("", ""))
        while rows:
            found.append(rows[0])
            rows = self._rows(_KINDS, rows[0])
        return found

    def first(self, kind: tuple[str, str], limit: int) -> list[ClosedRun]:
        """The runs of a type and status that closed first."""
        return [ClosedRun(*row) for row in self._rows(_CLOSED, (*kind, limit))]

    def of(self, workflow_id: str) -> list[ClosedRun]:
        """Those of a workflow id."""
        return [ClosedRun(*row) for row in self._rows(_CLOSED_OF, {"id": workflow_id})]

    def current(self, workflow_id: str) -> str:
        """The run whose state is the workflow's."""
        rows = self._rows("SELECT run_id FROM workflows WHERE workflow_id = ?", (workflow_id,))
        return str(rows[0][0]) if rows else ""

    def event_ids(self, workflow_id: str, run_id: str) -> list[int]:
        """The first event id of each record."""
        return [first for (first,) in self._rows(_EVENT_IDS, (run_id,))]
