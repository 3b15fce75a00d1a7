"""The RocksDB store and what stands for its events topic."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from perdure.adapters.memory.log import MemoryLog
from perdure.adapters.memory.medium import MemoryMedium
from perdure.adapters.memory.store import MemoryStore
from perdure.adapters.process.channel import Channel
from perdure.adapters.rocksdb.restorer import PartitionRestorer
from perdure.adapters.rocksdb.store import PartitionedStore
from perdure.codec.avro import EVENTS
from tests.contract.media import MEDIA, MemoryMedia, Node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from perdure.adapters.rocksdb.rounds import Record
    from perdure.engine.ports import Batch, Owner, Store
    from tests.contract.chronicle import Chronicle

NOW_US = 1_790_000_000_000_000


class TopicLog(MemoryLog):
    """Brings a store to where a list of records is, as the Kafka log does with a topic."""

    def __init__(
        self, channel: Channel, medium: MemoryMedium, topic: list[Record], restorer: PartitionRestorer
    ) -> None:
        super().__init__(channel, medium)
        self._topic = topic
        self._restorer = restorer

    def open(self, owner: Owner | None = None) -> None:
        take_over(self._restorer, 0, self._topic)
        super().open(owner)

    def commit(self, batch: Batch) -> None:
        super().commit(batch)
        for record, _ in batch.events:
            key = f"{record.workflow_id}/{record.run_id}/{record.first_event_id}".encode()
            self._topic.append((len(self._topic), key, EVENTS.encode(record), [EVENTS.header]))
        for removed in batch.removed:
            run = removed.run
            for first in removed.event_ids:
                key = f"{run.workflow_id}/{run.run_id}/{first}".encode()
                self._topic.append((len(self._topic), key, None, None))
        self._restorer.reached({0: len(self._topic)})


class AvroStore(PartitionedStore):
    """Takes batches whose events are msgpack, as those of the other stores are."""

    def apply(self, batch: Batch) -> None:
        super().apply(replace(batch, events=[(record, EVENTS.encode(record)) for record, _ in batch.events]))


class RocksMedia(MemoryMedia):
    """One partition."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._path = directory / "store"
        self._topic: list[Record] = []

    def _new_node(self) -> Node:
        channel = Channel()
        store = AvroStore(self._path, "topic", lambda _: 0, refuse)
        return Node(TopicLog(channel, self.medium, self._topic, PartitionRestorer(store)), store, channel)

    def _kill(self, node: Node) -> None:
        """As near as one comes within a process: `test_rocksdb_crash.py` kills real ones."""
        node.store.close()


STORES: dict[str, Callable[[Path], Any]] = {**MEDIA, "rocksdb": RocksMedia}


def refuse(message: str) -> None:
    raise AssertionError(f"nothing to report: {message}")


def opened(
    path: Path,
    chronicle: Chronicle,
    report: Callable[[str], None] = refuse,
    now: int = NOW_US,
    identity: str = "topic",
) -> tuple[PartitionedStore, PartitionRestorer]:
    store = AvroStore(path, identity, chronicle.partition_of, report, lambda: now)
    return store, PartitionRestorer(store)


def take_over(
    restorer: PartitionRestorer, partition: int, topic: list[Record], chunk: int = 7, again: int = 0
) -> int:
    """Restore from where the store is, reading `again` records once more."""
    checkpoint = restorer.open(partition, len(topic))
    for first in range(max(0, (checkpoint or 0) - again), len(topic), chunk):
        restorer.restore(partition, topic[first : first + chunk])
    return restorer.restored(partition, len(topic))


def take_over_all(restorer: PartitionRestorer, chronicle: Chronicle, chunk: int = 7, again: int = 0) -> None:
    for partition, records in chronicle.topic.items():
        take_over(restorer, partition, records, chunk, again)


def in_memory(batches: Iterable[Batch]) -> Store:
    medium = MemoryMedium()
    for batch in batches:
        medium.write(batch, 0, [])
    store = MemoryStore(medium)
    store.open()
    return store


def contents(store: Store, chronicle: Chronicle) -> dict[str, object]:
    """All that a store gives."""
    partitions = range(chronicle.partitions)
    everyone = sorted(chronicle.everyone)
    return {
        "states": {workflow_id: store.state(workflow_id) for workflow_id, _ in everyone},
        "events": {run_id: store.events(workflow_id, run_id) for workflow_id, run_id in everyone},
        "timers": store.timers(None, 10_000),
        "tasks": list(store.tasks(partitions)),
        "suspended": store.suspended(partitions),
        "latest_at": store.latest_at(),
    }
