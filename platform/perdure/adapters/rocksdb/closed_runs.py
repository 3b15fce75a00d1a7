"""Finds the closed runs of a partition."""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

from msgspec.structs import replace

from perdure.adapters.rocksdb import keys, values
from perdure.adapters.rocksdb.changes import Changes, Owner
from perdure.core.machines.lifecycle import TRANSITIONS
from perdure.core.state import STATUS
from perdure.errors import UndecodableRecord
from perdure.model.events import WorkflowStarted
from perdure.model.retention import ClosedRun

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOKED_UP: Final = 500
"""Closed runs whose type is looked up at a time; each costs about 20 us."""
UNKNOWN_TYPE: Final = "?"
"""The type of a closed run whose first record cannot be read."""


ENDS: Final = {event: str(STATUS[phase]) for (_, event), phase in TRANSITIONS.items() if phase.is_closed}
"""The status that an event closes a run with."""
INDEXED: Final = 10_000
"""Closed runs of an older store that are indexed with one write."""


class Database(Owner, Protocol):
    """The part of a partition that closed runs are found in."""

    def scan(self, first: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values from the first key to the one before the end."""
        ...

    def get(self, key: bytes) -> bytes | None:
        """The value of a key."""
        ...

    def write(self, changes: Changes, offset: int | None, at: int) -> None:
        """Write changes."""


class ClosedRunsOfPartition:
    """The closed runs of one partition, by type and status.

    For each kind it keeps the key from which to scan: no run of the kind has a smaller one. RocksDB
    would walk over the tombstones of the runs that were removed, which are those that closed first.

    Args:
        partition: whose.
    """

    __slots__ = ("_from", "_partition")

    def __init__(self, partition: Database) -> None:
        self._partition = partition
        self._from: dict[tuple[str, str], bytes] | None = None

    def note(self, kind: tuple[str, str], key: bytes) -> None:
        """A run of this kind has this key."""
        known = self._from
        if known is not None and key < known.get(kind, keys.CLOSED_END):
            known[kind] = key

    def kinds(self, before: int) -> list[tuple[str, str]]:
        """Types and statuses. Of runs that a restore has taken over the type is looked up when it
        is needed, some at a time.
        """
        known = self._known()
        unknown = [kind for kind in known if not kind[0]]
        has_more = [kind for kind in unknown if not self._look_up(kind, before)]
        return has_more + [kind for kind in known if kind[0]]

    def first(self, kind: tuple[str, str], limit: int) -> list[ClosedRun]:
        """The runs of a type and status that closed first."""
        known = self._known()
        begin = known.get(kind)
        if begin is None:
            return []
        end = keys.after_all(keys.kind(*kind))
        found = [key for key, _ in islice(self._partition.scan(begin, end), limit)]
        known[kind] = found[0] if found else end
        return [keys.closed_run_of(key) for key in found]

    def of(self, workflow_id: str) -> list[ClosedRun]:
        """Those of a workflow id."""
        prefix = keys.closed_of_workflow(workflow_id, "")
        return [keys.closed_run_of(key) for _, key in self._partition.scan(prefix, keys.after_all(prefix))]

    def find(self, workflow_id: str, run_id: str) -> ClosedRun | None:
        """A closed run; None when there is none."""
        key = self._partition.get(keys.closed_of_workflow(workflow_id, run_id))
        return None if key is None else keys.closed_run_of(key)

    def index_all(self) -> None:
        """Index the closed runs of a store that an older release has written."""
        changes, count = Changes(self._partition), 0
        for run_id, stored in self._last_records():
            with suppress(ValueError, LookupError, UndecodableRecord):
                record = values.record_of(stored)
                if (status := ENDS.get(type(record.events[-1]))) is not None:
                    changes.put_closed(ClosedRun("", status, record.at, run_id, record.workflow_id))
                    count += 1
            if count >= INDEXED:
                self._partition.write(changes, None, 0)
                changes, count = Changes(self._partition), 0
        self._partition.write(changes, None, 0)

    def _last_records(self) -> Iterator[tuple[str, bytes]]:
        run_id, last = "", b""
        for key, stored in self._partition.scan(keys.EVENTS, keys.after_all(keys.EVENTS)):
            found = keys.run_of_event(key)
            if found != run_id and run_id:
                yield run_id, last
            run_id, last = found, stored
        if run_id:
            yield run_id, last

    def _known(self) -> dict[tuple[str, str], bytes]:
        """Read from the store when it is needed first."""
        if self._from is None:
            self._from = dict(self._found())
        return self._from

    def _found(self) -> Iterator[tuple[tuple[str, str], bytes]]:
        """The kinds in the store; one seek for each."""
        begin = keys.CLOSED
        while (found := next(self._partition.scan(begin, keys.CLOSED_END), None)) is not None:
            run = keys.closed_run_of(found[0])
            yield (run.type, run.status), found[0]
            begin = keys.after_all(keys.kind(run.type, run.status))

    def _look_up(self, kind: tuple[str, str], before: int) -> bool:
        """Look up the types of some runs, those that closed first; return whether that was all."""
        due = [run for run in self.first(kind, LOOKED_UP) if run.closed_at <= before]
        if due:
            changes = Changes(self._partition)
            for run in due:
                changes.end_closed(run)
                changes.put_closed(replace(run, type=self._type_of(run.run_id)))
            self._partition.write(changes, None, 0)
        return len(due) < LOOKED_UP

    def _type_of(self, run_id: str) -> str:
        with suppress(ValueError, LookupError, UndecodableRecord):
            stored = self._partition.get(keys.event(run_id, 1))
            first = values.record_of(stored).events[0] if stored is not None else None
            if isinstance(first, WorkflowStarted):
                return first.type or UNKNOWN_TYPE
        return UNKNOWN_TYPE
