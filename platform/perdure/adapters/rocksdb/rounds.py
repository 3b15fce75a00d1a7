"""A restore from the events topic, in rounds: records are gathered by run, then each run is brought
from where the store has it to where its records lead, with the effects that the core derives from
them, and all of it is written together with the checkpoint.

A round is written whole or not at all and a record that the store has is passed over, so a restore
that was broken off continues where it was, and records may be read twice. Of a run that began and
ended within a round only the last record is decoded.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from perdure.adapters.rocksdb import values
from perdure.adapters.rocksdb.changes import Changes
from perdure.adapters.rocksdb.closed_runs import ENDS
from perdure.adapters.rocksdb.net_effects import NetEffects
from perdure.codec.avro import HEADER
from perdure.core.run import closed_run, fold, public_state, record, take_over
from perdure.core.state import Phase, RunState
from perdure.errors import InfrastructureError
from perdure.model import events as ev
from perdure.model.retention import ClosedRun, last_closed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perdure.adapters.rocksdb.partition import Partition
    from perdure.model.events import EventRecord

Record = tuple[int, bytes | None, bytes | None, "list[tuple[str, bytes]] | None"]
"""Offset, key, value (None: a tombstone), headers."""

ROUND: Final = 50_000
"""Records in a round."""

ROUND_BYTES: Final = 32 << 20
CACHED: Final = 20_000
"""Open runs kept from round to round."""

REPORTED: Final = 20
"""The number of skipped records that are named."""

_Entry = tuple[int, "bytes | None"]
"""First event id, and the value as it is stored; None: a tombstone."""

_TERMINATED: Final = ev.WorkflowTerminated()


class Restoration:
    """Restores one partition from the events topic.

    Args:
        partition: to be written.
        report: receives messages about skipped records.
    """

    def __init__(self, partition: Partition, report: Callable[[str], None]) -> None:
        self.partition = partition
        self._report = report
        self._is_empty = partition.offset is None
        self._gathered: dict[str, list[_Entry]] = {}
        self._count = self._bytes = 0
        self._cache: OrderedDict[str, RunState] = OrderedDict()
        self._faults: dict[str, str] = {}
        self._passed_over = 0
        self._changes = Changes(partition)
        self._current: dict[str, str] = {}
        self._closed: dict[str, list[ClosedRun]] = {}
        self._forgotten: set[str] = set()

    def add(self, records: Sequence[Record]) -> None:
        """Take over records, in order."""
        gathered = self._gathered
        for offset, key, value, headers in records:
            try:
                run, _, number = (key or b"").decode().rpartition("/")
                first_event_id = _event_id(number)
                stored = None if value is None else values.of_topic(value, _schema(headers))
            except (ValueError, InfrastructureError) as error:
                self._pass_over(f"offset {offset} is not a perdure record: {error}")
                continue
            entries = gathered.get(run)
            if entries is None:
                gathered[run] = [(first_event_id, stored)]
            else:
                entries.append((first_event_id, stored))
            if value is not None:
                self._bytes += len(value)
        self._count += len(records)
        if self._count >= ROUND or self._bytes >= ROUND_BYTES:
            self._write_round(records[-1][0] + 1)

    def finish(self, offset: int) -> None:
        """All records before `offset` have been added."""
        self._write_round(offset)
        for run, message in self._faults.items():
            self._pass_over(f"the run {run} was not updated: {message}")
        if self._passed_over > REPORTED:
            self._report(f"events of partition {self.partition.number}: {self._passed_over} faults in all")

    # ---- a round

    def _write_round(self, offset: int) -> None:
        self._changes = Changes(self.partition)
        self._current.clear()
        self._closed.clear()
        self._forgotten.clear()
        for run, entries in self._gathered.items():
            self._take(run, entries)
        self.partition.write(self._changes, offset, 0)
        self._gathered.clear()
        self._count = self._bytes = 0
        while len(self._cache) > CACHED:
            self._cache.popitem(last=False)

    def _take(self, run: str, entries: list[_Entry]) -> None:
        """All records of a run in the round."""
        workflow_id, _, run_id = run.rpartition("/")
        if any(stored is None for _, stored in entries):
            self._forget(run, workflow_id, run_id)
            return
        while entries:
            try:
                self._advance(run, workflow_id, run_id, entries)
            except _BrokenError as error:
                self._faults[run] = str(error)
                entries = entries[: error.index]
            else:
                return

    def _advance(self, run: str, workflow_id: str, run_id: str, entries: list[_Entry]) -> None:
        state = self._stored_run(run, run_id, entries[0][0])
        is_new = state is None
        last = self._closing(workflow_id, run_id, entries) if is_new else None
        if last is not None and isinstance(last.events[-1], ev.TERMINAL):
            self._take_closed(workflow_id, run_id, entries, last)
            return
        net = NetEffects()
        taken: list[tuple[int, bytes]] = []
        for index, (first_event_id, stored) in enumerate(entries):
            if state is not None and first_event_id <= state.last_event_id:
                continue
            assert stored is not None
            try:
                if last is not None and index == len(entries) - 1:
                    record = last
                else:
                    record = _record(stored, workflow_id, run_id, first_event_id)
                state = take_over(state, record, net)
            except Exception as error:  # one bad record must not stop a partition
                raise _BrokenError(index, f"{type(error).__name__}: {error}") from error
            self._changes.note(record)
            taken.append((first_event_id, stored))
        assert state is not None
        for first_event_id, stored in taken:
            self._changes.put_event(run_id, first_event_id, stored)
        net.write(self._changes, is_new=is_new)
        self._write_state(state, is_new=is_new)
        if not state.phase.is_closed:
            self._cache[run] = state
        elif taken:
            self._put_closed(closed_run(state))

    def _stored_run(self, run: str, run_id: str, first_event_id: int) -> RunState | None:
        """The run as the store has it; None when it has none of it."""
        state = self._cache.pop(run, None)
        if state is not None:
            return state
        if first_event_id == 1 and (self._is_empty or not self.partition.has_record(run_id, 1)):
            return None
        stored = self.partition.events(run_id)
        return fold(stored) if stored else None

    def _closing(self, workflow_id: str, run_id: str, entries: list[_Entry]) -> EventRecord | None:
        """The last record of a run that the store has nothing of; None when it cannot be read, or
        others are needed to judge.
        """
        first_event_id, stored = entries[-1]
        if entries[0][0] != 1 or stored is None:
            return None
        with suppress(ValueError, LookupError, InfrastructureError):
            return _record(stored, workflow_id, run_id, first_event_id)
        return None

    def _take_closed(self, workflow_id: str, run_id: str, entries: list[_Entry], last: EventRecord) -> None:
        """Take over a run that began and ended in the round: it leaves only its records."""
        self._changes.note(last)
        for first_event_id, stored in entries:
            assert stored is not None
            self._changes.put_event(run_id, first_event_id, stored)
            if last.input_offset < 0:  # a timer ended it, just after a takeover
                with suppress(ValueError, LookupError, InfrastructureError):
                    self._changes.note(_record(stored, workflow_id, run_id, first_event_id))
        self._changes.point(workflow_id, run_id, is_suspended=False)
        self._current[workflow_id] = run_id
        first = last.events[0]
        # the type of others is looked up when it is needed: decoding one more record costs 15 us
        name = first.type if isinstance(first, ev.WorkflowStarted) else ""
        self._put_closed(ClosedRun(name, ENDS[last.events[-1].__class__], last.at, run_id, workflow_id))

    def _put_closed(self, run: ClosedRun) -> None:
        self._closed.setdefault(run.workflow_id, []).append(run)
        self._changes.put_closed(run)

    def _write_state(self, state: RunState, *, is_new: bool) -> None:
        """A restored state is folded on demand; one written by a batch keeps its view."""
        workflow_id, is_suspended = state.workflow_id, state.phase is Phase.SUSPENDED
        if is_new:
            self._changes.point(workflow_id, state.run_id, is_suspended=is_suspended)
            self._current[workflow_id] = state.run_id
            return
        found = self._current.get(workflow_id) or self.partition.state(workflow_id)
        if isinstance(found, str):
            if found == state.run_id:
                self._changes.suspend(workflow_id, state.run_id, is_suspended=is_suspended)
        elif found is not None and found.run_id == state.run_id:
            self._changes.put_state(public_state(state, found.view))

    def _forget(self, run: str, workflow_id: str, run_id: str) -> None:
        """Forget a run that was deleted."""
        self._cache.pop(run, None)
        self._faults.pop(run, None)
        with suppress(ValueError, LookupError, InfrastructureError):
            stored = self.partition.events(run_id)
            if stored and not (state := fold(stored)).phase.is_closed:
                net = NetEffects()
                record(state, _TERMINATED, 0, net)
                net.write(self._changes, is_new=False)
        for first_event_id in self.partition.event_ids(run_id):
            self._changes.end_event(run_id, first_event_id)
        self._forgotten.add(run_id)
        if (closed := self.partition.closed.find(workflow_id, run_id)) is not None:
            self._changes.end_closed(closed)
        found = self._current.get(workflow_id) or self.partition.state(workflow_id)
        if found is not None and (found if isinstance(found, str) else found.run_id) == run_id:
            self._show_earlier(workflow_id)

    def _show_earlier(self, workflow_id: str) -> None:
        """The workflow's last run was deleted: its state is that of the one before, if there is
        one.
        """
        closed = [*self.partition.closed.of(workflow_id), *self._closed.get(workflow_id, ())]
        left = [run for run in closed if run.run_id not in self._forgotten]
        if not left:
            self._changes.end_state(workflow_id)
            self._current.pop(workflow_id, None)
            return
        newest = max(left, key=last_closed)
        self._changes.point(workflow_id, newest.run_id, is_suspended=False)
        self._current[workflow_id] = newest.run_id

    def _pass_over(self, message: str) -> None:
        self._passed_over += 1
        if self._passed_over <= REPORTED:
            self._report(f"events of partition {self.partition.number}: {message}")


class _BrokenError(Exception):
    """The records of a run cannot be taken over from this one on."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


def _event_id(number: str) -> int:
    """The event id of a key. Another system may have written one that no store takes."""
    found = int(number)
    if not 0 < found < 1 << 63:
        raise ValueError(f"there is no event {number[:30]}")
    return found


def _schema(headers: list[tuple[str, bytes]] | None) -> bytes | None:
    for name, value in headers or ():
        if name == HEADER:
            return value
    return None


def _record(stored: bytes, workflow_id: str, run_id: str, first_event_id: int) -> EventRecord:
    record = values.record_of(stored)
    if (record.workflow_id, record.run_id, record.first_event_id) != (workflow_id, run_id, first_event_id):
        raise ValueError(
            f"its key has event {first_event_id} of run {run_id}, the record has event "
            f"{record.first_event_id}"
        )
    return record
