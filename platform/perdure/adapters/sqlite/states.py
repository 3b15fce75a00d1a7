"""States in the SQLite file: each can be shown, however damaged its record is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.codec.records import decode_state
from perdure.errors import InfrastructureError
from perdure.model.states import Status, WorkflowState

if TYPE_CHECKING:
    from sqlite3 import Connection


def read_state(connection: Connection, workflow_id: str, record: Any) -> WorkflowState:
    """The state in a row; where its record cannot be read, what the other columns say, with why as
    its reason.
    """
    try:
        return decode_state(record)
    except InfrastructureError as error:
        cursor = connection.execute("SELECT * FROM workflows WHERE workflow_id = ?", (workflow_id,))
        names = [each[0] for each in cursor.description]
        return state_of_columns(
            workflow_id, dict(zip(names, cursor.fetchone() or (), strict=False)), str(error)
        )


def state_of_columns(workflow_id: str, columns: dict[str, Any], reason: str) -> WorkflowState:
    """A state without what only its record had.

    Args:
        workflow_id: of the workflow.
        columns: by name; what is missing, or of another type, is left out.
        reason: why the record cannot be read.
    """

    def text(name: str) -> str:
        found = columns.get(name)
        return found if isinstance(found, str) else ""

    def moment(name: str) -> int:
        found = columns.get(name)
        return found if isinstance(found, int) and abs(found) < 2**63 else 0

    status = Status(text("status")) if text("status") in set(Status) else Status.SUSPENDED
    started_at, updated_at = moment("started_at"), moment("updated_at")
    return WorkflowState(
        workflow_id,
        text("run_id"),
        text("type"),
        status=status,
        started_at=started_at,
        updated_at=updated_at or started_at,
        closed_at=moment("closed_at"),
        history_length=0,
        reason=reason,
    )
