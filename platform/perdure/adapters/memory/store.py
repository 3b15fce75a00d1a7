"""The store in memory: apart from its log, and behind it after a crash between commit and apply, as
a real one may be.
"""

from __future__ import annotations

from heapq import nsmallest
from typing import TYPE_CHECKING

from perdure.codec.paging import PAGE_EVENTS, page_from
from perdure.codec.records import encode_event_record, hash_of
from perdure.model.states import Status

if TYPE_CHECKING:
    from collections.abc import Collection

    from perdure.adapters.memory.medium import MemoryMedium
    from perdure.engine.ports import Batch
    from perdure.model.events import EventRecord
    from perdure.model.replies import History
    from perdure.model.retention import ClosedRun
    from perdure.model.states import WorkflowState
    from perdure.model.tasks import Task
    from perdure.model.timers import Timer


class MemoryStore:
    """`engine.ports.Store` on a `MemoryMedium`."""

    def __init__(self, medium: MemoryMedium) -> None:
        self._medium = medium

    def open(self) -> None:
        """Catch up from the log."""
        self._medium.catch_up(self._medium.stored)

    def apply(self, batch: Batch) -> None:
        """Fold the batch that was committed last; nothing when that has been done."""
        self._medium.catch_up(self._medium.stored)
        assert self._medium.stored.latest_at >= batch.at, "the batch has been committed"

    def state(self, workflow_id: str) -> WorkflowState | None:
        """The state of the workflow id."""
        return self._medium.stored.states.get(workflow_id)

    def events(self, workflow_id: str, run_id: str) -> list[EventRecord]:
        """The history of a run."""
        return [record for record in self._medium.stored.events(run_id) if record.workflow_id == workflow_id]

    def page(self, workflow_id: str, run_id: str, from_event_id: int, limit: int = PAGE_EVENTS) -> History:
        """A page of the history."""
        return page_from(self.events(workflow_id, run_id), from_event_id, limit)

    def last_hash(self, workflow_id: str, run_id: str) -> bytes:
        """Of the run's last record."""
        records = self.events(workflow_id, run_id)
        return hash_of(encode_event_record(records[-1])) if records else b""

    def timers(self, after: Timer | None, limit: int) -> list[Timer]:
        """Timers in their order."""
        return self._medium.stored.timers(after, limit)

    def tasks(self, partitions: Collection[int] = (0,)) -> list[Task]:
        """Tasks that have not ended, oldest first."""
        return sorted(
            self._medium.stored.tasks.values(), key=lambda task: (task.scheduled_at, task.run_id, task.number)
        )

    def suspended(self, partitions: Collection[int] = (0,)) -> list[tuple[str, str]]:
        """Runs that are suspended."""
        states = self._medium.stored.states.values()
        return sorted(
            (state.workflow_id, state.run_id) for state in states if state.status is Status.SUSPENDED
        )

    def running(self, partition: int, after: object, limit: int) -> tuple[list[tuple[str, str]], object]:
        """Runs that run, by workflow id."""
        states = self._medium.stored.states
        ids = sorted(workflow_id for workflow_id in states if after is None or workflow_id > str(after))[
            :limit
        ]
        found = [(each, states[each].run_id) for each in ids if states[each].status is Status.RUNNING]
        return found, ids[-1] if len(ids) == limit else None

    def closed_runs(self) -> MemoryClosedRuns:
        """The index of closed runs."""
        return MemoryClosedRuns(self._medium)

    def latest_at(self) -> int:
        """The `at` of the last batch."""
        return self._medium.stored.latest_at

    def close(self) -> None:
        """Nothing to close."""


class MemoryClosedRuns:
    """`engine.ports.ClosedRuns` on a `MemoryMedium`."""

    def __init__(self, medium: MemoryMedium) -> None:
        self._medium = medium

    def kinds(self, before: int) -> list[tuple[str, str]]:
        """Types and statuses of closed runs."""
        return sorted({(run.type, run.status) for run in self._medium.stored.closed.values()})

    def first(self, kind: tuple[str, str], limit: int) -> list[ClosedRun]:
        """The runs of a type and status that closed first."""
        runs = self._medium.stored.closed.values()
        return nsmallest(limit, (run for run in runs if (run.type, run.status) == kind))

    def of(self, workflow_id: str) -> list[ClosedRun]:
        """Those of a workflow id."""
        return [run for run in self._medium.stored.closed.values() if run.workflow_id == workflow_id]

    def current(self, workflow_id: str) -> str:
        """The run whose state is the workflow's."""
        state = self._medium.stored.states.get(workflow_id)
        return "" if state is None else state.run_id

    def event_ids(self, workflow_id: str, run_id: str) -> list[int]:
        """The first event id of each record."""
        return [record.first_event_id for record in self._medium.stored.events(run_id)]
