"""Changes written to a partition atomically, together with its checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from rocksdict import WriteBatch

from perdure.adapters.rocksdb import keys, values
from perdure.codec.records import encode_task
from perdure.model.states import Status

if TYPE_CHECKING:
    from perdure.model.events import EventRecord
    from perdure.model.retention import ClosedRun, RemovedRun
    from perdure.model.states import WorkflowState
    from perdure.model.tasks import Task
    from perdure.model.timers import Timer


class Kinds(Protocol):
    """The kinds of closed runs that there are."""

    def note(self, kind: tuple[str, str], key: bytes) -> None:
        """A run of this kind has this key."""


class Owner(Protocol):
    """The part of a partition that changes keep up to date.

    Attributes:
        number: of the partition.
        suspended: run ids of the suspended runs, by workflow id.
        timers_from: no timer has a smaller key.
    """

    number: int
    suspended: dict[str, str]
    timers_from: bytes

    @property
    def closed(self) -> Kinds:
        """The kinds of closed runs."""
        ...


class Changes:
    """Collects; `Partition.write` writes them.

    Args:
        partition: whose.

    Attributes:
        partition: whose.
        batch: RocksDB's.
        latest_at: of what is in it, microseconds.
        input_offset: the highest one that a record of it names.
    """

    __slots__ = ("_delete", "_put", "batch", "input_offset", "latest_at", "partition")

    def __init__(self, partition: Owner) -> None:
        self.partition = partition
        self.batch = WriteBatch(raw_mode=True)
        self._put = self.batch.put
        self._delete = self.batch.delete
        self.latest_at = 0
        self.input_offset = -1

    def note(self, record: EventRecord) -> None:
        """Note the offset of the record."""
        self.latest_at = max(self.latest_at, record.at)
        if record.input_partition == self.partition.number:
            self.input_offset = max(self.input_offset, record.input_offset)

    def put_event(self, run_id: str, first_event_id: int, stored: bytes) -> None:
        """A record, as `values.py` writes it."""
        self._put(keys.event(run_id, first_event_id), stored)

    def end_event(self, run_id: str, first_event_id: int) -> None:
        """Forget a record."""
        self._delete(keys.event(run_id, first_event_id))

    def put_state(self, state: WorkflowState) -> None:
        """The state of a workflow id."""
        self._put(keys.state(state.workflow_id), values.of_state(state))
        self.suspend(state.workflow_id, state.run_id, is_suspended=state.status is Status.SUSPENDED)

    def point(self, workflow_id: str, run_id: str, *, is_suspended: bool) -> None:
        """The state of a workflow id is what this run's history says."""
        self._put(keys.state(workflow_id), values.of_run(run_id))
        self.suspend(workflow_id, run_id, is_suspended=is_suspended)

    def suspend(self, workflow_id: str, run_id: str, *, is_suspended: bool) -> None:
        """Record whether the workflow's current run is suspended."""
        suspended = self.partition.suspended
        if is_suspended:
            suspended[workflow_id] = run_id
            self._put(keys.suspended(workflow_id), run_id.encode())
        elif suspended and suspended.pop(workflow_id, None) is not None:
            self._delete(keys.suspended(workflow_id))

    def end_state(self, workflow_id: str) -> None:
        """Forget a workflow id."""
        self._delete(keys.state(workflow_id))
        self.suspend(workflow_id, "", is_suspended=False)

    def put_closed(self, run: ClosedRun) -> None:
        """Index a closed run."""
        key = keys.closed(run)
        self.partition.closed.note((run.type, run.status), key)
        self._put(key, b"")
        self._put(keys.closed_of_workflow(run.workflow_id, run.run_id), key)

    def end_closed(self, run: ClosedRun) -> None:
        """Forget a closed run."""
        self._delete(keys.closed(run))
        self._delete(keys.closed_of_workflow(run.workflow_id, run.run_id))

    def remove(self, removed: RemovedRun) -> None:
        """Forget a run and its records."""
        self.end_closed(removed.run)
        for event_id in removed.event_ids:
            self.end_event(removed.run.run_id, event_id)

    def put_task(self, task: Task) -> None:
        """A task that has not ended."""
        self._put(keys.task(task.run_id, task.number), encode_task(task))

    def end_task(self, run_id: str, number: int) -> None:
        """Forget a task."""
        self._delete(keys.task(run_id, number))

    def arm(self, timer: Timer) -> None:
        """Keep a timer."""
        key = keys.timer(timer)
        self.partition.timers_from = min(self.partition.timers_from, key)
        self._put(key, b"")

    def disarm(self, timer: Timer) -> None:
        """Forget a timer."""
        self._delete(keys.timer(timer))
