"""One partition's RocksDB."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, cast

from rocksdict import ReadOptions

from perdure.adapters.rocksdb import keys, values
from perdure.adapters.rocksdb.closed_runs import ClosedRunsOfPartition
from perdure.adapters.rocksdb.faults import fault
from perdure.adapters.rocksdb.values import FORMAT, Checkpoint
from perdure.codec.records import decode_task, encode_event_record
from perdure.core.run import fold, public_state
from perdure.model.states import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rocksdict import Rdict

    from perdure.adapters.rocksdb.changes import Changes
    from perdure.model.events import EventRecord
    from perdure.model.states import WorkflowState
    from perdure.model.tasks import Task
    from perdure.model.timers import Timer


ASKED_FOR: Final = 16
"""Records of a history that are asked for one by one; the others are scanned."""


class Partition:
    """Reads one RocksDB, and writes `Changes` to it. Belongs to one thread at a time.

    Args:
        number: of the partition.
        path: of the directory.
        db: open, in raw mode.
        identity: of the events topic.
        checkpoint: what was found in it; None when it is empty.
        now: the clock of the machine, microseconds.

    Attributes:
        format: of what is stored.
        suspended: run ids by workflow id.
        timers_from: no timer has a key before it.
        closed: finds closed runs.
    """

    def __init__(
        self,
        number: int,
        path: Path,
        db: Rdict,
        identity: str,
        checkpoint: Checkpoint | None,
        now: Callable[[], int],
    ) -> None:
        self.number = number
        self.path = path
        self._db = db
        self._identity = identity
        self._now = now
        self.format = checkpoint.format if checkpoint else FORMAT
        self.offset = checkpoint.offset if checkpoint else None
        self.input_offset = checkpoint.input_offset if checkpoint else -1
        self.latest_at = checkpoint.latest_at if checkpoint else 0
        self.timers_from = checkpoint.timers_from if checkpoint else keys.TIMERS
        self._last_read = "", b""
        self.suspended = {
            key[1:].decode(): run_id.decode()
            for key, run_id in self.scan(keys.SUSPENDED, keys.after_all(keys.SUSPENDED))
        }
        self.closed = ClosedRunsOfPartition(self)

    def write(self, changes: Changes, offset: int | None, at: int) -> None:
        """Write changes, and the position that the store has reached.

        Args:
            changes: all or nothing.
            offset: of the next record that is not in the store; None: as before.
            at: of the batch, microseconds.

        Raises:
            InfrastructureError: nothing was written; the message says what to do.
        """
        self._last_read = "", b""
        if offset is not None:
            self.offset = offset
        self.input_offset = max(self.input_offset, changes.input_offset)
        self.latest_at = max(self.latest_at, changes.latest_at, at)
        checkpoint = Checkpoint(
            self.format,
            self._identity,
            self.number,
            offset=self.offset or 0,
            input_offset=self.input_offset,
            latest_at=self.latest_at,
            written_at=self._now(),
            timers_from=self.timers_from,
        )
        changes.batch.put(keys.CHECKPOINT, values.encode_checkpoint(checkpoint))
        try:
            self._db.write(changes.batch)
        except Exception as error:
            raise fault(error, self.path) from error

    def has_record(self, run_id: str, first_event_id: int) -> bool:
        """Whether the record is stored."""
        return self.get(keys.event(run_id, first_event_id)) is not None

    def events(self, run_id: str) -> list[EventRecord]:
        """The history of a run. A record says where the next one begins: asking for it by its key
        takes one look into one file, where a scan looks into all of them; only a long history is
        scanned.
        """
        records: list[EventRecord] = []
        event_id = 1
        while len(records) < ASKED_FOR:
            stored = self.get(keys.event(run_id, event_id))
            if stored is None:
                break
            records.append(values.record_of(stored))
            event_id = records[-1].last_event_id + 1
            self._last_read = run_id, stored
        if 0 < len(records) < ASKED_FOR:
            return records
        for _, stored in self.scan(keys.event(run_id, event_id), keys.after_all(keys.events(run_id))):
            records.append(values.record_of(stored))
            self._last_read = run_id, stored
        return records

    def records_from(self, run_id: str, event_id: int) -> Iterator[tuple[int, bytes]]:
        """First event id and record, as `codec.records` encodes it, from the one that holds the
        event on, or the last one.
        """
        first = keys.events(run_id)
        begin = keys.event(run_id, event_id)
        try:
            found = self._db.iter()
            found.seek_for_prev(begin)
            if found.valid() and found.key().startswith(first):
                begin = found.key()
            found.status()
        except Exception as error:
            raise fault(error, self.path) from error
        for key, stored in self.scan(begin, keys.after_all(first)):
            yield keys.event_id_of(key), encode_event_record(values.record_of(stored))

    def last_record(self, run_id: str) -> bytes | None:
        """The last of a run, as it is stored."""
        if self._last_read[0] == run_id:
            return self._last_read[1]
        first = keys.events(run_id)
        try:
            found = self._db.iter()
            found.seek_for_prev(keys.after_all(first))
            if found.valid() and found.key().startswith(first):
                return cast("bytes", found.value())
            found.status()
        except Exception as error:
            raise fault(error, self.path) from error
        return None

    def event_ids(self, run_id: str) -> list[int]:
        """The first event ids of a run's records."""
        first = keys.events(run_id)
        return [keys.event_id_of(key) for key, _ in self.scan(first, keys.after_all(first))]

    def state(self, workflow_id: str) -> WorkflowState | str | None:
        """The state of a workflow id, or the run whose history it has to be folded from."""
        stored = self.get(keys.state(workflow_id))
        return None if stored is None else values.state_of(stored)

    def folded_state(self, workflow_id: str) -> WorkflowState | None:
        """The state of a workflow id."""
        found = self.state(workflow_id)
        return public_state(fold(self.events(found)), b"") if isinstance(found, str) else found

    def running(self, after: str, limit: int) -> tuple[list[tuple[str, str]], str | None]:
        """Workflow and run ids of what runs among the next `limit` states, and the last workflow id
        of them; None at the end.
        """
        rows = list(islice(self.scan(keys.state(after) + b"\0", keys.after_all(keys.state(""))), limit))
        found: list[tuple[str, str]] = []
        for key, stored in rows:
            state = values.state_of(stored)
            if isinstance(state, str):  # to be folded from its history
                found.append((key[1:].decode(), state))
            elif state.status is Status.RUNNING:
                found.append((state.workflow_id, state.run_id))
        return found, rows[-1][0][1:].decode() if len(rows) == limit else None

    def tasks(self) -> list[Task]:
        """Those that have not ended."""
        return [decode_task(stored) for _, stored in self.scan(keys.TASKS, keys.after_all(keys.TASKS))]

    def timer_keys(self, after: Timer | None) -> Iterator[bytes]:
        """In order, from the first, or from the one after `after`."""
        first = keys.TIMERS if after is None else keys.timer(after) + b"\0"
        if first > self.timers_from:
            return self._keys(first)
        return self._keys_from_the_first()

    def timers(self, after: Timer | None, limit: int) -> list[Timer]:
        """A page of `timer_keys`."""
        return [keys.timer_of(key) for key in islice(self.timer_keys(after), limit)]

    def close(self) -> None:
        """Close the directory."""
        self._db.close()

    def _keys_from_the_first(self) -> Iterator[bytes]:
        """The saved cursor follows the first timer found: the keys before it are RocksDB's
        tombstones of timers that have fired, and walking over them costs more than all the rest.
        """
        is_first = True
        for key in self._keys(self.timers_from):
            if is_first:
                self.timers_from, is_first = key, False
            yield key
        if is_first:
            self.timers_from = keys.TIMERS_END

    def _keys(self, first: bytes) -> Iterator[bytes]:
        return (key for key, _ in self.scan(first, keys.TIMERS_END))

    def scan(self, first: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values from the first key to the one before the end.

        The `items` of rocksdict ends without a word at a block that is damaged; here the status
        is asked.
        """
        options = ReadOptions()
        options.set_iterate_upper_bound(end)
        try:
            found = self._db.iter(options)
            found.seek(first)
            is_valid, key, value, advance = found.valid, found.key, found.value, found.next
            while is_valid():
                yield key(), value()
                advance()
            found.status()
        except Exception as error:
            raise fault(error, self.path) from error

    def get(self, key: bytes) -> bytes | None:
        """The value of a key."""
        try:
            return cast("bytes | None", self._db.get(key))
        except Exception as error:
            raise fault(error, self.path) from error
