"""Retention: closed workflows leave the tables when they are old enough. The topics keep theirs."""

from __future__ import annotations

from typing import Final

from perdure.adapters.postgres.database import Connection, Database

SLICE: Final = 200
"""Workflows of one transaction."""
EVERY_S: Final = 60.0
"""Between two sweeps that found less than a slice."""
_SWEEP: Final = """WITH old AS (
        SELECT workflow_id, run_id FROM {s}.workflows
            WHERE closed_at < clock_timestamp() - make_interval(secs => %s)
        LIMIT %s FOR UPDATE SKIP LOCKED),
    gone AS (DELETE FROM {s}.events e USING old WHERE e.workflow_id = old.workflow_id)
    DELETE FROM {s}.workflows w USING old WHERE w.workflow_id = old.workflow_id"""


class Retention:
    """Deletes slice by slice, between batches of what is new.

    Args:
        seconds: how long a workflow stays after it has closed.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due_at = 0.0

    def apply(self, connection: Connection, database: Database, now: float) -> int:
        """Delete a slice, when it is time; how many workflows, with all events of all their runs.

        Args:
            connection: in autocommit mode.
            database: with its tables.
            now: monotonic, seconds.
        """
        if now < self._due_at:
            return 0
        deleted = connection.execute(database.sql(_SWEEP), (self._seconds, SLICE)).rowcount
        self._due_at = now + EVERY_S if deleted < SLICE else now
        return deleted
