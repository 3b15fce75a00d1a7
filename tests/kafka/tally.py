"""The least engine there can be on a `KafkaLog`: it counts the signals of each workflow, one event
for each.

A signal `NUMBER>WORKFLOW` sends the signal `NUMBER!` to that workflow. Its store is memory,
restored from the events topic. So whether every command was applied exactly once can be read from
the topic.

    python -m tests.kafka.tally BOOTSTRAP NAMESPACE INSTANCE [SETTING=VALUE ...]     until SIGTERM
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from perdure.adapters.kafka.clients.transactional import EngineClients
from perdure.adapters.kafka.engine.log import KafkaLog
from perdure.adapters.kafka.engine.ports import Record
from perdure.adapters.kafka.status import Status
from perdure.adapters.process.channel import Channel
from perdure.codec.avro import EVENTS, HEADER
from perdure.engine.ports import Batch
from perdure.errors import CommitAborted
from perdure.model.commands import AnyCommand, SignalWorkflow
from perdure.model.events import EventRecord, SignalReceived
from perdure.model.replies import Accepted
from perdure.model.tasks import Task


def decoded(record: Record) -> EventRecord:
    _, _, value, headers = record
    assert value is not None
    return EVENTS.decode(value, dict(headers or ()).get(HEADER))


class TallyStore:
    """`adapters.kafka.engine.ports.Restorer` in memory; nothing of a partition outlives its owner,
    unless `kept` is given."""

    def __init__(self, kept: dict[int, tuple[int, dict[str, int], int]] | None = None) -> None:
        self.kept = kept if kept is not None else {}
        self.last: dict[int, dict[str, int]] = {}
        self.caused_by: dict[int, int] = {}
        self.checkpoint: dict[int, int] = {}
        self.open_tasks: list[Task] = []
        self.restored_records = 0
        self.calls: list[str] = []
        self.hook: Callable[[int], None] = lambda partition: None

    def open(self, partition: int, end: int) -> int | None:
        self.calls.append(f"open {partition}")
        offset: int | None
        offset, last, caused_by = self.kept.get(partition, (end + 1, dict[str, int](), -1))
        if offset > end:
            offset, last, caused_by = None, {}, -1
        self.last[partition], self.caused_by[partition] = dict(last), caused_by
        return offset

    def restore(self, partition: int, records: Sequence[Record]) -> None:
        self.hook(partition)
        for record in map(decoded, records):
            self._add(partition, record)
        self.restored_records += len(records)

    def restored(self, partition: int, offset: int) -> int:
        self.calls.append(f"restored {partition}")
        self.checkpoint[partition] = offset
        return self.caused_by[partition]

    def reached(self, ends: Mapping[int, int]) -> None:
        self.checkpoint.update(ends)

    def tasks(self, partitions: Collection[int]) -> Iterable[Task]:
        return self.open_tasks

    def close(self, partition: int) -> None:
        self.calls.append(f"close {partition}")
        if partition in self.checkpoint:
            self.kept[partition] = (
                self.checkpoint.pop(partition),
                self.last[partition],
                self.caused_by[partition],
            )
        self.last.pop(partition, None)

    def apply(self, batch: Batch) -> None:
        for record, _ in batch.events:
            self._add(record.input_partition, record)

    def _add(self, partition: int, record: EventRecord) -> None:
        last = self.last[partition]
        assert record.first_event_id == last.get(record.workflow_id, 0) + 1, (
            partition,
            record,
            last.get(record.workflow_id),
        )
        last[record.workflow_id] = record.last_event_id
        self.caused_by[partition] = max(self.caused_by[partition], record.input_offset)


class Tally:
    """Commands in, events out, as `engine.processor.Engine` does it."""

    def __init__(
        self,
        clients: EngineClients,
        store: TallyStore | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.channel = Channel()
        self.store = store or TallyStore()

        def report(message: str, /, **_where: str | int) -> None:
            say(f"report {message}")

        self.log = KafkaLog(clients, self.channel, self.store, status=Status(report))
        self.owned: set[int] = set()
        self.handled = 0
        self.aborted = 0
        self.before_commit: Callable[[], None] = lambda: None
        self._say = say
        self._has_open_batch = False

    @property
    def has_open_batch(self) -> bool:
        return self._has_open_batch

    def partitions_gained(self, partitions: Collection[int]) -> None:
        assert not self._has_open_batch
        assert not self.owned & set(partitions)
        self.owned |= set(partitions)
        self._say(f"gained {sorted(partitions)} at {time.time():.3f}")

    def partitions_lost(self, partitions: Collection[int]) -> None:
        assert not self._has_open_batch
        self.owned -= set(partitions)
        self._say(f"lost {sorted(partitions)} at {time.time():.3f}")

    def open(self) -> Tally:
        self.log.open(self)
        return self

    def step(self, timeout_s: float = 0.1, limit: int = 1000) -> list[AnyCommand]:
        """One batch; what it took."""
        commands = self.log.take(limit, timeout_s)
        if not commands:
            return []
        self._has_open_batch = True
        batch = self.batch_of(commands)
        try:
            self.before_commit()
            self.log.commit(batch)
        except CommitAborted as error:
            self._has_open_batch = False
            self.aborted += 1
            self._say(f"aborted {error}")
            self.log.abort()
            return []
        self._has_open_batch = False
        self.store.apply(batch)
        self.handled += len(commands)
        return commands

    def until(self, condition: Callable[[], bool], timeout_s: float = 30) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, (
                self.owned,
                self.log.status.waiting_for,
                self.log.status.counts,
            )
            self.step(0.02)

    def batch_of(self, commands: list[AnyCommand]) -> Batch:
        batch = Batch(time.time_ns() // 1000)
        by_id: dict[str, list[SignalWorkflow]] = defaultdict(list)
        for command in commands:
            assert isinstance(command, SignalWorkflow)
            by_id[command.workflow_id].append(command)
            number, _, other = command.name.partition(">")
            if other:
                batch.commands.append(SignalWorkflow(other, name=f"{number}!"))
            if command.reply_to:
                batch.replies.append((command.reply_to, Accepted(command.request_id, "run")))
        for workflow_id, signals in by_id.items():
            partition, offset = self.log.input_of(workflow_id)
            first = self.store.last[partition].get(workflow_id, 0) + 1
            events: list[Any] = [SignalReceived(each.name, each.input, each.request_id) for each in signals]
            record = EventRecord(workflow_id, "run", first, batch.at, partition, offset, b"", events)
            batch.events.append((record, EVENTS.encode(record)))
        return batch

    def close(self) -> None:
        self.log.close()


def trap(signal_and_batch: str) -> Callable[[], None]:
    """`STOP@20`: sends this process that signal in its 20th batch."""
    name, _, at = signal_and_batch.partition("@")
    counter = itertools.count(1)

    def spring() -> None:
        if next(counter) == int(at):
            print("trapped", flush=True)
            os.kill(os.getpid(), signal.Signals[f"SIG{name}"])

    return spring


def main(bootstrap: str, namespace: str, instance: str, *settings: str) -> None:
    options = dict(each.split("=", 1) for each in settings)
    in_batch, in_transaction = options.pop("in_batch", ""), options.pop("in_transaction", "")
    known: dict[str, Any] = {
        "is_static": options.pop("static", "") == "1",
        "protocol": options.pop("protocol", "classic"),
    }
    for name in ("session_timeout_ms", "transaction_timeout_ms"):
        if name in options:
            known[name] = int(options.pop(name))
    clients = EngineClients(namespace, instance, {"bootstrap.servers": bootstrap, **options}, **known)
    is_ending = False

    def end(*_: Any) -> None:
        nonlocal is_ending
        is_ending = True
        tally.log.wake()

    tally = Tally(clients, say=lambda text: print(text, flush=True))
    if in_batch:
        tally.before_commit = trap(in_batch)
    if in_transaction:
        spring, write = trap(in_transaction), tally.log._writer.write

        def write_and_spring(producer: Any, batch: Batch) -> None:
            write(producer, batch)
            producer.flush(5)
            spring()

        tally.log._writer.write = write_and_spring  # type: ignore[method-assign]
    signal.signal(signal.SIGTERM, end)
    tally.open()
    print("open", flush=True)
    while not is_ending:
        tally.step(1.0)
    tally.close()
    print(f"closed {tally.log.status.counts} handled {tally.handled}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
