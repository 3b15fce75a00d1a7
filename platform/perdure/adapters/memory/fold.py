"""The fold of batches into what a store holds; in memory."""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import TYPE_CHECKING

from perdure.codec.records import decode_event_record

if TYPE_CHECKING:
    from perdure.engine.ports import Batch
    from perdure.model.events import EventRecord
    from perdure.model.retention import ClosedRun
    from perdure.model.states import WorkflowState
    from perdure.model.tasks import Task
    from perdure.model.timers import Timer


class Fold:
    """Batches folded one after the other; a batch that has been folded already changes nothing.

    Attributes:
        checkpoint: how many batches of the log are in it.
        closed: the closed runs, by run id.
    """

    def __init__(self) -> None:
        self.checkpoint = 0
        self.latest_at = 0
        self.states: dict[str, WorkflowState] = {}
        self.tasks: dict[tuple[str, int], Task] = {}
        self._timers: list[Timer] = []
        self._events: dict[str, list[bytes]] = {}
        self.closed: dict[str, ClosedRun] = {}

    def add(self, position: int, batch: Batch) -> None:
        """Fold the batch at a position of the log, from 0."""
        if position < self.checkpoint:
            return
        assert position == self.checkpoint, "batches are folded in order"
        for record, encoded in batch.events:
            self._events.setdefault(record.run_id, []).append(encoded)
        self.states.update(batch.states)
        self.closed.update((run.run_id, run) for run in batch.closed)
        for removed in batch.removed:
            self._events.pop(removed.run.run_id, None)
            self.closed.pop(removed.run.run_id, None)
        for workflow_id in batch.states_ended:
            self.states.pop(workflow_id, None)
        for key in batch.tasks_ended:
            self.tasks.pop(key, None)
        self.tasks.update(batch.tasks)
        for timer in batch.timers_ended:
            self._remove(timer)
        for timer in batch.timers:
            self._remove(timer)
            insort(self._timers, timer)
        self.latest_at = max(self.latest_at, batch.at)
        self.checkpoint = position + 1

    def events(self, run_id: str) -> list[EventRecord]:
        """Decoded from what would be on disk."""
        return [decode_event_record(encoded) for encoded in self._events.get(run_id, ())]

    def timers(self, after: Timer | None, limit: int) -> list[Timer]:
        """In order."""
        first = 0 if after is None else bisect_right(self._timers, after)
        return self._timers[first : first + limit]

    def _remove(self, timer: Timer) -> None:
        index = bisect_right(self._timers, timer) - 1
        if index >= 0 and self._timers[index] == timer:
            del self._timers[index]
