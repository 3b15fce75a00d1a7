"""Readers: what everybody may see of a medium, from any thread."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

    def close(self) -> None:
        """Nothing to let go of."""


def _key(state: WorkflowState) -> tuple[int, str]:
    return state.started_at, state.workflow_id


def _is_beyond(state: WorkflowState, after: WorkflowState, *, is_newest: bool) -> bool:
    return _key(state) < _key(after) if is_newest else _key(state) > _key(after)
