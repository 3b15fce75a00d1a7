"""Public reads of the medium in memory, from any thread."""

from __future__ import annotations

import builtins
from itertools import accumulate
from typing import TYPE_CHECKING

from perdure.client.listing import ListQuery, count, select
from perdure.codec.paging import PAGE_EVENTS, page_from
from perdure.model.streams import PAGE_BYTES, StreamPage

if TYPE_CHECKING:
    from perdure.adapters.memory.medium import MemoryMedium
    from perdure.client.position import Position
    from perdure.model.events import EventRecord
    from perdure.model.replies import History
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
            return [
                record for record in self._medium.written.events(run_id) if record.workflow_id == workflow_id
            ]

    def history(
        self, workflow_id: str, run_id: str, from_event_id: int = 1, limit: int = PAGE_EVENTS
    ) -> History:
        """A page of the history."""
        return page_from(self.events(workflow_id, run_id), from_event_id, limit)

    def list(self, query: ListQuery) -> builtins.list[WorkflowState]:
        """A page of workflows."""
        with self._medium.lock:
            return select(query, self._medium.written.states.values(), query.matches)

    def counts(self, query: ListQuery | None = None) -> dict[tuple[str, str], int]:
        """Number of workflows, by (type, status)."""
        with self._medium.lock:
            return count(self._medium.written.states.values(), query or ListQuery())

    def stream(self, workflow_id: str, name: str, after: int, limit: int) -> StreamPage:
        """A page of a stream."""
        with self._medium.lock:
            streams = self._medium.streams
            found = [
                (offset, each)
                for offset, each in enumerate(streams[after:], after + 1)
                if each.workflow_id == workflow_id and each.name == name
            ]
            sizes = accumulate(len(each.value) for _, each in found)
            fitting = next((number for number, size in enumerate(sizes, 1) if size > PAGE_BYTES), limit)
            count = min(limit, fitting)
            return StreamPage(found[:count], len(streams) if len(found) <= count else found[count - 1][0])

    def dead_letters(self) -> int:
        """Number of dead letters."""
        return len(self._medium.letters)

    def wait_for(self, position: Position, timeout_s: float) -> bool:
        """Nothing to wait for: every read sees all that was answered before it."""
        return True

    def close(self) -> None:
        """Nothing to close."""
