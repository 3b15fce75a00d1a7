"""`engine.ports.Store` over one RocksDB for each partition that is owned."""

from __future__ import annotations

import threading
import time
from functools import lru_cache
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from perdure.adapters.rocksdb import keys, values
from perdure.adapters.rocksdb.changes import Changes
from perdure.adapters.rocksdb.directory import Directory
from perdure.adapters.rocksdb.partition import Partition
from perdure.codec.paging import PAGE_EVENTS, is_of, page_of
from perdure.codec.records import hash_of
from perdure.model.replies import History

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from perdure.engine.ports import Batch
    from perdure.model.events import EventRecord
    from perdure.model.retention import ClosedRun
    from perdure.model.states import WorkflowState
    from perdure.model.tasks import Task
    from perdure.model.timers import Timer

CACHE_BYTES: Final = 64 << 20
"""The memory for blocks that were read, and the same again for writes, of all partitions."""

PLACED: Final = 50_000
"""Workflow ids whose partition is remembered."""


class PartitionedStore:
    """A cache of the events topic. `PartitionRestorer` gains and loses its partitions. The bytes of
    a batch's events are Avro (`codec.avro.EVENTS`), as the log writes them.

    Args:
        path: of its directory; made when there is none.
        identity: of the events topic, as text: cluster id, topic id, namespace. A directory with
            another one is rebuilt.
        partition_of: the partition that a workflow id is on.
        report: receives messages for the operator.
        now: the clock of the machine, microseconds.
        cache_bytes: see `CACHE_BYTES`.

    Attributes:
        owned: the partitions that the engine may see; never changed, but replaced, since the
            restorer's thread does it.
    """

    def __init__(
        self,
        path: str | Path,
        identity: str,
        partition_of: Callable[[str], int],
        report: Callable[[str], None],
        now: Callable[[], int] = lambda: time.time_ns() // 1_000,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.directory = Directory(Path(path).absolute(), identity, report, now, cache_bytes)
        self.report = report
        self.owned: Mapping[int, Partition] = {}
        self._replacing = threading.Lock()
        self._place = lru_cache(PLACED)(partition_of)
        self._ends: dict[int, int] = {}

    def open(self) -> None:
        """Nothing to do: partitions are opened as they are gained."""

    def reached(self, ends: Mapping[int, int]) -> None:
        """Position of the events topic with the next applied batch: by partition, the offset after
        its last record.
        """
        self._ends.update(ends)

    def gain(self, partition: Partition) -> None:
        """Make a restored partition visible to the engine; any thread may call this."""
        with self._replacing:
            self.owned = {**self.owned, partition.number: partition}

    def lose(self, number: int) -> None:
        """Close a partition, if it is owned."""
        with self._replacing:
            owned = dict(self.owned)
            lost = owned.pop(number, None)
            self.owned = owned
        if lost is not None:
            lost.close()

    def apply(self, batch: Batch) -> None:
        """Apply a batch in one write per partition; partitions that are not owned any more are
        skipped.
        """
        changes: dict[int, Changes] = {}
        runs: dict[str, int] = {}
        for record, encoded in batch.events:
            partition = (
                record.input_partition if record.input_partition >= 0 else self._place(record.workflow_id)
            )
            runs[record.run_id] = partition
            if (to := self._changes(changes, partition)) is not None:
                to.put_event(record.run_id, record.first_event_id, values.of_batch(encoded))
                to.note(record)
        self._apply_effects(batch, changes, runs)
        for state in batch.states.values():
            if (to := self._changes(changes, self._place(state.workflow_id))) is not None:
                to.put_state(state)
        for run in batch.closed:
            if (to := self._changes(changes, self._place(run.workflow_id))) is not None:
                to.put_closed(run)
        for removed in batch.removed:
            if (to := self._changes(changes, self._place(removed.run.workflow_id))) is not None:
                to.remove(removed)
        for workflow_id in batch.states_ended:
            if (to := self._changes(changes, self._place(workflow_id))) is not None:
                to.end_state(workflow_id)
        for number in self._ends:
            self._changes(changes, number)
        for number, to in changes.items():
            self.owned[number].write(to, self._ends.get(number), batch.at)
        self._ends.clear()

    def state(self, workflow_id: str) -> WorkflowState | None:
        """The state of the workflow id."""
        partition = self.owned.get(self._place(workflow_id))
        return partition.folded_state(workflow_id) if partition is not None else None

    def events(self, workflow_id: str, run_id: str) -> list[EventRecord]:
        """The history of a run."""
        partition = self.owned.get(self._place(workflow_id))
        records = partition.events(run_id) if partition is not None else []
        return records if records and records[0].workflow_id == workflow_id else []

    def page(self, workflow_id: str, run_id: str, from_event_id: int, limit: int = PAGE_EVENTS) -> History:
        """A page of the history."""
        partition = self.owned.get(self._place(workflow_id))
        page = (
            page_of(partition.records_from(run_id, from_event_id), from_event_id, limit)
            if partition is not None
            else History("", ())
        )
        return page if not page.records or is_of(page.records[0], workflow_id) else History("", ())

    def last_hash(self, workflow_id: str, run_id: str) -> bytes:
        """Of the run's last record, as the topic has it."""
        partition = self.owned.get(self._place(workflow_id))
        stored = partition.last_record(run_id) if partition is not None else None
        return b"" if stored is None else hash_of(values.bytes_of(stored))

    def timers(self, after: Timer | None, limit: int) -> list[Timer]:
        """Those of all partitions, in their order."""
        found = [partition.timer_keys(after) for partition in self.owned.values()]
        return [
            keys.timer_of(key)
            for key in islice(merge(*found) if len(found) > 1 else found[0] if found else (), limit)
        ]

    def tasks(self, partitions: Collection[int] = (0,)) -> list[Task]:
        """Tasks that have not ended, oldest first."""
        tasks = [task for each in self._of(partitions) for task in each.tasks()]
        return sorted(tasks, key=lambda task: (task.scheduled_at, task.run_id, task.number))

    def suspended(self, partitions: Collection[int] = (0,)) -> list[tuple[str, str]]:
        """Runs that are suspended."""
        return sorted(run for each in self._of(partitions) for run in each.suspended.items())

    def running(self, partition: int, after: object, limit: int) -> tuple[list[tuple[str, str]], object]:
        """Runs that run, by workflow id."""
        owned = self.owned.get(partition)
        return ([], None) if owned is None else owned.running("" if after is None else str(after), limit)

    def closed_runs(self) -> StoredClosedRuns:
        """The index of closed runs."""
        return StoredClosedRuns(lambda: self.owned, self._place)

    def latest_at(self) -> int:
        """The latest of all partitions."""
        return max((partition.latest_at for partition in self.owned.values()), default=0)

    def close(self) -> None:
        """Close all partitions."""
        for number in self.owned:
            self.lose(number)

    def _apply_effects(self, batch: Batch, changes: dict[int, Changes], runs: dict[str, int]) -> None:
        for key in batch.tasks_ended:
            for partition in (runs[key[0]],) if key[0] in runs else tuple(self.owned):
                if (to := self._changes(changes, partition)) is not None:
                    to.end_task(*key)
        for task in batch.tasks.values():
            if (to := self._changes(changes, self._place(task.workflow_id))) is not None:
                to.put_task(task)
        for timer in batch.timers_ended:
            if (to := self._changes(changes, self._place(timer.workflow_id))) is not None:
                to.disarm(timer)
        for timer in batch.timers:
            if (to := self._changes(changes, self._place(timer.workflow_id))) is not None:
                to.arm(timer)

    def _of(self, partitions: Collection[int]) -> list[Partition]:
        owned = self.owned
        return [owned[number] for number in partitions if number in owned]

    def _changes(self, changes: dict[int, Changes], number: int) -> Changes | None:
        """Those of a partition; None when it is not owned."""
        found = changes.get(number)
        if found is None and (partition := self.owned.get(number)) is not None:
            found = changes[number] = Changes(partition)
        return found


class StoredClosedRuns:
    """`engine.ports.ClosedRuns` over the partitions that are owned.

    Args:
        owned: gives them, by number.
        place: the partition that a workflow id is on.
    """

    def __init__(self, owned: Callable[[], Mapping[int, Partition]], place: Callable[[str], int]) -> None:
        self._owned = owned
        self._place = place

    def kinds(self, before: int) -> list[tuple[str, str]]:
        """Types and statuses of closed runs."""
        return sorted({kind for each in self._owned().values() for kind in each.closed.kinds(before)})

    def first(self, kind: tuple[str, str], limit: int) -> list[ClosedRun]:
        """The runs of a type and status that closed first."""
        found = [each.closed.first(kind, limit) for each in self._owned().values()]
        return list(islice(merge(*found), limit))

    def of(self, workflow_id: str) -> list[ClosedRun]:
        """Those of a workflow id."""
        partition = self._owned().get(self._place(workflow_id))
        return [] if partition is None else partition.closed.of(workflow_id)

    def current(self, workflow_id: str) -> str:
        """The run whose state is the workflow's."""
        partition = self._owned().get(self._place(workflow_id))
        found = None if partition is None else partition.state(workflow_id)
        return "" if found is None else found if isinstance(found, str) else found.run_id

    def event_ids(self, workflow_id: str, run_id: str) -> list[int]:
        """The first event id of each record."""
        partition = self._owned().get(self._place(workflow_id))
        return [] if partition is None else partition.event_ids(run_id)
