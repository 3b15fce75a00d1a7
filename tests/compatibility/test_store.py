"""The present code trusts the store of every release's Kafka engine, and brings its runs to their
ends.

There is no Kafka: events and tasks come from the topics that were left, commands and the time from
the test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from perdure.adapters.kafka.namespace.partitioner import partition_of
from perdure.adapters.memory.log import MemoryLog
from perdure.adapters.memory.medium import MemoryMedium
from perdure.adapters.process.channel import Channel
from perdure.adapters.rocksdb.restorer import PartitionRestorer
from perdure.adapters.rocksdb.rounds import Record
from perdure.codec.avro import HEADER, TASKS
from perdure.engine.ports import Batch, Log, Owner, Store
from perdure.model import commands as cm
from perdure.model.tasks import Task
from tests.compatibility.going_on import (
    HOUR_US,
    YEARS_US,
    assert_done_once,
    assert_ended,
    assert_shipped_once,
    names_of,
)
from tests.compatibility.release import Folder, Topics
from tests.compatibility.restoring import QUEUE
from tests.compatibility.scenarios import Ask
from tests.contract.rocks import AvroStore, refuse
from tests.simulation.invariants import check_history
from tests.simulation.world import World


def records_of(topics: Topics) -> list[list[Record]]:
    """The events topic, by partition, as a takeover reads it."""
    events = topics.own["events"]
    found: list[list[Record]] = [[] for _ in events.ends]
    for each in events.records:
        found[each.partition].append((each.offset, each.key, each.value, each.headers))
    return found


def opened(path: Path, topics: Topics, at: int) -> AvroStore:
    """The store in a directory, at the time when it was left; it reports nothing."""
    return AvroStore(path, topics.identity, place_of(topics), refuse, lambda: at)


def place_of(topics: Topics) -> Callable[[str], int]:
    """The partition of a workflow id."""
    count = len(topics.own["events"].ends)

    def place(workflow_id: str) -> int:
        return partition_of(workflow_id.encode(), count)

    return place


def take_over(restorer: PartitionRestorer, topics: Topics) -> list[int]:
    """Restore what the store does not have yet; how many records of each partition that were."""
    missing: list[int] = []
    records_by_partition = records_of(topics)
    for partition, end in enumerate(topics.own["events"].ends):
        first = restorer.open(partition, end) or 0
        new = [record for record in records_by_partition[partition] if record[0] >= first]
        restorer.restore(partition, new)
        restorer.restored(partition, end)
        missing.append(len(new))
    return missing


def untaken(topics: Topics) -> list[Task]:
    """Tasks that a worker finds in the topics: those after what was committed."""
    found: list[Task] = []
    for part, topic in topics.own.items():
        if part.startswith(QUEUE):
            committed = topics.committed.get(f"worker.{part.removeprefix(QUEUE)}", {}).get(part, {})
            found += [
                TASKS.decode(each.value, dict(each.headers)[HEADER])
                for each in topic.records
                if each.value is not None and each.offset >= committed.get(each.partition, 0)
            ]
    return found


class OldTopics(MemoryLog):
    """Owns all partitions."""

    def __init__(self, channel: Channel, medium: MemoryMedium, topics: Topics, store: AvroStore) -> None:
        super().__init__(channel, medium)
        self._deliver = channel.deliveries.deliver_tasks
        self._topics = topics
        self._place = place_of(topics)
        self._restorer = PartitionRestorer(store)
        self._ends = dict(enumerate(topics.own["events"].ends))

    def open(self, owner: Owner | None = None) -> None:
        super().open()
        take_over(self._restorer, self._topics)
        assert owner is not None
        owner.partitions_gained(self._ends)
        self._deliver(untaken(self._topics))

    def input_of(self, workflow_id: str) -> tuple[int, int]:
        return self._place(workflow_id), -1

    def commit(self, batch: Batch) -> None:
        super().commit(batch)
        for record, _ in batch.events:
            self._ends[self._place(record.workflow_id)] += 1
        self._restorer.reached(self._ends)


class OldStore:
    """A medium of `World`."""

    def __init__(self, path: Path, topics: Topics, at: int) -> None:
        self._memory = MemoryMedium()
        self._path = path
        self._topics = topics
        self._at = at

    def adapters(self, channel: Channel) -> tuple[Log, Store]:
        store = opened(self._path, self._topics, self._at)
        return OldTopics(channel, self._memory, self._topics, store), store

    def records(self) -> list[tuple[str, bytes | None, bytes | None]]:
        return [(each.topic, each.key, each.value) for each in self._memory.records]


def test_a_store_of_an_earlier_release_is_what_its_topic_says(folder: Folder, tmp_path: Path) -> None:
    release, topics = folder.release, folder.topics
    folder.put_store(tmp_path / "left")
    stores = [opened(tmp_path / name, topics, release.topics.at) for name in ("left", "restored")]
    missing = [take_over(PartitionRestorer(store), topics) for store in stores]
    partitions = range(len(missing[0]))
    assert sum(missing[0]) == 0, "the store was where its topic was"
    assert sum(missing[1]) == len(topics.own["events"].records)
    left, restored = ([s.timers(None, 1_000), s.tasks(partitions), s.suspended(partitions)] for s in stores)
    assert left == restored
    assert all(left), "there are timers, tasks and suspended runs to compare"
    for workflow_id, runs in release.topics.runs.items():
        for seen in runs:
            records = [store.events(workflow_id, seen.run_id) for store in stores]
            assert records[0] == records[1]
            assert names_of(records[0])[: len(seen.events)] == seen.events
        states = [store.state(workflow_id) for store in stores]
        assert [(state.run_id, state.status) for state in states if state] == [
            (runs[-1].run_id, release.topics.statuses[workflow_id])
        ] * 2
    kinds = [sorted(store.closed_runs().kinds(1 << 62)) for store in stores]
    assert kinds[0] == kinds[1]
    assert all(kind[0] for kind in kinds[0])
    for kind in kinds[0]:
        closed = [store.closed_runs().first(kind, 1_000) for store in stores]
        assert closed[0] == closed[1]
        assert closed[0], "there are closed runs of each kind"
    for store in stores:
        store.close()


def test_an_engine_continues_with_an_earlier_store(folder: Folder, book: Path, tmp_path: Path) -> None:
    release, topics, at = folder.release, folder.topics, folder.release.topics.at
    book.write_text("".join(f"{line}\n" for line in release.topics.book))
    folder.put_store(tmp_path / "store")
    world = World(folder.code("repaired"), medium=OldStore(tmp_path / "store", topics, at))
    world.clock.at = at + 2 * HOUR_US
    world.crash()  # an engine believes the time of day at its start only
    world.settle()
    for scenario in release.scenarios:
        for ask in (*scenario.unread, *scenario.goes_on):
            _ask(world, scenario.id, ask)
    world.settle()
    world.advance_to(at + 30 * HOUR_US)
    for scenario in release.scenarios:
        assert scenario.is_late != world.state(scenario.id).status.is_closed, scenario.id
    world.advance_to(at + YEARS_US)
    for scenario in release.scenarios:
        assert_ended(scenario, world.state(scenario.id), release.topics)
        check_history(world.history(scenario.id), is_of_this_version=False)
    world.close()
    assert_done_once(release, book)
    assert_shipped_once(release, [*_shipped_before(topics), *(key for _, key, _ in world.records())])


def _ask(world: World, workflow_id: str, ask: Ask) -> None:
    match ask:
        case ["signal", name, *args]:
            world.signal_later(workflow_id, name, *args)
        case ["cancel", reason]:
            world.ask(cm.CancelWorkflow, workflow_id, reason=reason)
        case _:
            raise AssertionError(f"{ask}: nobody knows how to ask that")


def _shipped_before(topics: Topics) -> Sequence[bytes | None]:
    return [record.key for topic in topics.others.values() for record in topic.records]
