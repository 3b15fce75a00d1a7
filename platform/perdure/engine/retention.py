"""Removes closed runs whose retention has ended, and those that someone deletes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from perdure.core.run import fold, public_state
from perdure.errors import UndecodableRecord
from perdure.model.retention import NOTHING_SAID, ClosedRun, RemovedRun, Retention, last_closed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from perdure.engine.active import ActiveRuns
    from perdure.engine.counts import Counts
    from perdure.engine.ports import Batch, Store
    from perdure.workflow import Definition

SLICE: Final = 250
"""The most runs that one batch removes: less than 20 ms of work."""
SLICE_RECORDS: Final = 2_500
"""After this number of records a slice takes no further run."""
FEW: Final = 10
"""A batch that has other work removes this many runs, or twice those that close in it: under any
load runs go faster than they come."""
PAUSE_US: Final = 1_000_000
"""The shortest time between two looks at a store that had nothing more to remove."""
HELD_US: Final = 60_000_000
"""The pause after a batch that could not be written, microseconds of the engine's time."""


class RunRemover:
    """Finds the closed runs that are due, and adds their removal to batches.

    Args:
        store: has the index of closed runs.
        definitions: workflow types by name, with their retention.
        default: of types and outcomes that say nothing.
        runs: the cache, which must not keep a run that is removed.
        counts: counts the removed runs.
    """

    __slots__ = (
        "_asked",
        "_closed",
        "_counts",
        "_default",
        "_definitions",
        "_due",
        "_has_filled",
        "_next_at",
        "_removed",
        "_runs",
        "_shortest_us",
        "_store",
    )

    def __init__(
        self,
        store: Store,
        definitions: Mapping[str, Definition],
        default: Retention,
        *,
        runs: ActiveRuns,
        counts: Counts,
    ) -> None:
        self._store = store
        self._closed = store.closed_runs()
        self._definitions = definitions
        self._default = default
        self._runs = runs
        self._counts = counts
        rules = [default, *(each.retention for each in definitions.values())]
        limits = [kept for rule in rules for kept in rule.by_outcome.values() if kept is not None]
        self._shortest_us = min(limits, default=None)
        self._next_at = 0
        self._due: list[ClosedRun] = []
        self._asked: dict[str, ClosedRun] = {}
        self._has_filled = False
        self._removed: dict[str, ClosedRun] = {}

    def next_at(self) -> int | None:
        """When to look next, by the engine's time; None: all runs are kept for ever."""
        return None if self._shortest_us is None else self._next_at

    def kept_us(self, type: str, status: str) -> int | None:
        """How long a run is kept after it has closed, microseconds; None: for ever."""
        definition = self._definitions.get(type)
        said = (NOTHING_SAID if definition is None else definition.retention).by_outcome
        return said[status] if status in said else self._default.by_outcome.get(status)

    def look(self, at: int, *, limit: int = SLICE) -> bool:
        """Find runs that are due; `fill` removes them.

        Args:
            at: of the batch, microseconds.
            limit: the most runs.

        Returns:
            Whether there are any.
        """
        if self._shortest_us is None or at < self._next_at:
            return False
        # A run that closes from now on is due after the shortest retention at the earliest.
        next_at, oldest_at, due = at + self._shortest_us, at, self._due
        for kind in self._closed.kinds(at - self._shortest_us):
            if not kind[0]:
                next_at = at
            elif (kept_us := self.kept_us(*kind)) is not None:
                for run in self._closed.first(kind, limit + 1):
                    due_at = run.closed_at + kept_us
                    if due_at > at or len(due) >= limit:
                        next_at = min(next_at, max(due_at, at))
                        break
                    due.append(run)
                    oldest_at = min(oldest_at, due_at)
        self._next_at = next_at if next_at == at else max(next_at, at + PAUSE_US)
        self._counts.oldest_due_us = at - oldest_at
        return bool(due)

    def fill(self, batch: Batch, *, is_idle: bool) -> None:
        """Add the removal of runs that are due to a batch.

        Args:
            batch: its states are complete.
            is_idle: the batch has no command, and `look` was called; otherwise it removes few runs.
        """
        if not is_idle:
            self.look(batch.at, limit=min(SLICE, max(FEW, 2 * len(batch.closed))))
        due, self._due = self._due, []
        asked, records = list(self._asked.values()), 0
        self._has_filled = bool(due)
        for run in asked:
            self._remove(run, batch)
        self._asked.clear()
        for index, run in enumerate(due):
            if records >= SLICE_RECORDS:
                self._next_at = batch.at  # the others are found again
                due = due[:index]
                break
            records += self._remove(run, batch)
        self._end_states([*asked, *due], batch)

    def runs_of(self, workflow_id: str) -> list[ClosedRun]:
        """The closed runs of a workflow id in the store, but those that the open batch removes."""
        return [run for run in self._closed.of(workflow_id) if run.run_id not in self._asked]

    def ask(self, runs: Iterable[ClosedRun]) -> None:
        """Have runs removed with the open batch, whatever their retention."""
        self._asked.update((run.run_id, run) for run in runs)

    def settle(self) -> None:
        """The batch is committed: forget what it has removed."""
        if self._removed:
            self._counts.removed += len(self._removed)
            for run in self._removed.values():
                self._runs.drop_run(run.workflow_id, run.run_id)
            self._removed.clear()
            self._has_filled = False

    @property
    def has_filled(self) -> bool:
        """Whether the open batch removes runs that no command has named."""
        return self._has_filled

    def abort(self, at: int) -> None:
        """The batch was aborted: its runs are found again, after a pause, so that a removal that
        cannot be written stops nothing else.
        """
        self._due.clear()
        self._asked.clear()
        self._has_filled = False
        if self._removed:
            self._removed.clear()
            self._next_at = at + HELD_US

    def _remove(self, run: ClosedRun, batch: Batch) -> int:
        """Returns the number of its records."""
        if run.run_id in self._removed:
            return 0
        self._removed[run.run_id] = run
        event_ids = self._closed.event_ids(run.workflow_id, run.run_id)
        batch.removed.append(RemovedRun(run, tuple(event_ids)))
        return len(event_ids)

    def _end_states(self, runs: Iterable[ClosedRun], batch: Batch) -> None:
        """The state of a workflow whose last run goes is that of the run before it, if there is
        one.
        """
        for workflow_id in {run.workflow_id: None for run in runs}:
            if workflow_id in batch.states or self._closed.current(workflow_id) not in self._removed:
                continue
            left = [run for run in self._closed.of(workflow_id) if run.run_id not in self._removed]
            newest = max(left, key=last_closed, default=None)
            with suppress(ValueError, LookupError, UndecodableRecord):
                if newest is not None:
                    run = fold(self._store.events(workflow_id, newest.run_id))
                    batch.states[workflow_id] = public_state(run, b"")
                    continue
            batch.states_ended.add(workflow_id)
