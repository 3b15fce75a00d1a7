"""The store of several partitions, and what each of them remembers of where it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace as with_fields

from perdure.adapters.memory.medium import MemoryMedium
from perdure.adapters.memory.store import MemoryStore
from perdure.adapters.rocksdb.directory import FUTURE_US
from perdure.adapters.rocksdb.net_effects import NetEffects
from perdure.adapters.rocksdb.restorer import PartitionRestorer
from perdure.adapters.rocksdb.store import PartitionedStore
from perdure.codec.avro import EVENTS
from perdure.codec.records import decode_event_record, encode_event_record, hash_of
from perdure.engine.ports import Batch
from perdure.model.events import EventRecord, SignalReceived, WorkflowStarted
from perdure.model.states import Status
from perdure.model.timers import Timer, TimerKind
from tests.contract.samples import state, task

DAY_US = 86_400_000_000
NOW_US = 1_790_000_000_000_000


def place_of(workflow_id: str) -> int:
    """The number before the dash."""
    return int(workflow_id.partition("-")[0])


def opened(
    path: Path, now: int = NOW_US, said: list[str] | None = None
) -> tuple[PartitionedStore, dict[int, int | None]]:
    """A store that owns partitions 0 and 1, and from where each would be restored."""
    store = PartitionedStore(path, "topic", place_of, (said if said is not None else []).append, lambda: now)
    restorer = PartitionRestorer(store)
    found = {number: restorer.open(number, 100) for number in (0, 1)}
    for number, offset in found.items():
        restorer.restored(number, offset or 0)
    return store, found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PartitionedStore]:
    store, _ = opened(tmp_path)
    yield store
    store.close()


def event(
    workflow_id: str, first: int = 1, input_partition: int = -1, input_offset: int = -1, at: int = 1
) -> EventRecord:
    events = [WorkflowStarted("Order", b"[]", 311, 7)] if first == 1 else [SignalReceived("go", b"[]")] * 2
    return EventRecord(
        workflow_id, f"run-{workflow_id}", first, at, input_partition, input_offset, b"", [*events]
    )


def batch(at: int, *records: EventRecord) -> Batch:
    return Batch(at, events=[(each, EVENTS.encode(each)) for each in records])


def timer(workflow_id: str, fires_at: int) -> Timer:
    return Timer(fires_at, f"run-{workflow_id}", TimerKind.CODE, 1, workflow_id)


def test_timers_of_all_partitions_are_given_in_one_order(store: PartitionedStore) -> None:
    timers = [timer("0-a", 5), timer("1-a", 4), timer("0-b", 1), timer("1-b", 9)]
    store.apply(Batch(1, timers=set(timers)))
    assert store.timers(None, 10) == sorted(timers)
    assert store.timers(None, 2) == sorted(timers)[:2]
    assert store.timers(sorted(timers)[1], 10) == sorted(timers)[2:]
    store.apply(Batch(2, timers={timer("0-c", 0)}, timers_ended={timers[1]}))
    assert [each.fires_at for each in store.timers(None, 10)] == [0, 1, 5, 9], (
        "one that is armed earlier is found"
    )


def test_events_of_a_timer_are_on_the_partition_of_their_workflow(store: PartitionedStore) -> None:
    store.apply(batch(1, event("1-a")))
    assert store.events("1-a", "run-1-a") == [event("1-a")]
    store.lose(0)
    assert store.events("1-a", "run-1-a") == [event("1-a")]
    store.apply(batch(2, event("0-a")))
    assert store.events("0-a", "run-0-a") == [], "a partition that is not ours is passed over"


def test_a_task_that_ends_is_found_on_no_partition(store: PartitionedStore) -> None:
    first = task(1, run_id="run-1-a")
    store.apply(Batch(1, tasks={("run-1-a", 1): with_fields(first, workflow_id="1-a")}))
    assert [each.number for each in store.tasks((0, 1))] == [1]
    assert store.tasks((0,)) == []
    store.apply(Batch(2, tasks_ended={("run-1-a", 1)}))
    assert store.tasks((0, 1)) == []


def test_suspended_runs_are_those_of_the_partitions_that_were_asked_for(store: PartitionedStore) -> None:
    suspended = {each: state(each, f"run-{each}", status=Status.SUSPENDED) for each in ("0-a", "1-a")}
    store.apply(Batch(1, states=dict(suspended)))
    assert store.suspended((1,)) == [("1-a", "run-1-a")]
    assert store.suspended((0, 1)) == [("0-a", "run-0-a"), ("1-a", "run-1-a")]
    store.apply(Batch(2, states={"1-a": state("1-a", "run-1-a")}))
    assert store.suspended((0, 1)) == [("0-a", "run-0-a")]


def test_a_resumed_run_is_still_running_after_a_restart(tmp_path: Path) -> None:
    store, _ = opened(tmp_path)
    store.apply(
        Batch(
            1,
            states={
                "0-a": state("0-a", "r", status=Status.SUSPENDED),
                "0-b": state("0-b", "r", status=Status.SUSPENDED),
            },
        )
    )
    store.apply(Batch(2, states={"0-a": state("0-a", "r")}))
    store.close()
    again, _ = opened(tmp_path)
    assert again.suspended((0, 1)) == [("0-b", "r")]
    again.close()


def test_the_hash_chain_continues_from_the_last_record_after_the_history_was_read(
    store: PartitionedStore,
) -> None:
    first, second = event("0-a"), event("0-a", 2)
    store.apply(batch(1, first))
    store.events("0-a", "run-0-a")
    assert store.last_hash("0-a", "run-0-a") == hash_of(EVENTS.encode(first))
    store.apply(batch(2, second))
    assert store.last_hash("0-a", "run-0-a") == hash_of(EVENTS.encode(second))
    assert store.last_hash("0-a", "run-0-b") == b""


def test_each_partition_continues_where_its_own_events_ended(tmp_path: Path) -> None:
    store, _ = opened(tmp_path)
    store.reached({0: 7, 1: 3})
    store.apply(batch(50, event("0-a")))
    store.reached({0: 9})
    store.apply(batch(40, event("0-a", 2)))
    assert store.latest_at() == 50, "time never goes back"
    store.close()
    again, found = opened(tmp_path)
    assert found == {0: 9, 1: 3}
    assert again.latest_at() == 50
    again.apply(batch(60, event("1-b")))
    again.close()
    again, found = opened(tmp_path)
    assert found == {0: 9, 1: 3}, "without news of the topic it is where it was"
    again.close()


def test_a_regained_partition_continues_at_its_current_offset(tmp_path: Path) -> None:
    store, _ = opened(tmp_path)
    store.reached({0: 7, 1: 3})
    store.apply(batch(50, event("0-a")))
    store.lose(0)
    restorer = PartitionRestorer(store)
    assert restorer.open(0, 100) == 7
    restorer.restored(0, 12)  # another engine has written five records
    store.apply(batch(60, event("0-b")))
    store.close()
    again, found = opened(tmp_path)
    assert found == {0: 12, 1: 3}
    again.close()


def test_a_partition_knows_the_last_of_its_own_commands(tmp_path: Path) -> None:
    store, _ = opened(tmp_path)
    store.apply(batch(1, event("0-a", 1, 0, 17), event("1-a", 1, 1, 99), event("1-b")))
    store.apply(batch(2, event("0-a", 2, 0, 16)))
    assert {number: each.input_offset for number, each in store.owned.items()} == {0: 17, 1: 99}
    changes = store._changes({}, 0)
    assert changes is not None
    changes.note(event("0-a", 1, 1, 400))
    assert changes.input_offset == -1
    store.close()


@pytest.mark.parametrize(
    ("age_us", "is_trusted"),
    [(DAY_US // 2, True), (DAY_US // 2 + 1, False), (-FUTURE_US, True), (-FUTURE_US - 1, False)],
)
def test_a_store_is_trusted_for_half_a_day(tmp_path: Path, age_us: int, is_trusted: bool) -> None:
    """Kafka forgets tombstones after a day (`delete.retention.ms`)."""
    store, _ = opened(tmp_path)
    store.reached({0: 7, 1: 7})
    store.apply(Batch(1))
    store.close()
    said: list[str] = []
    again, found = opened(tmp_path, NOW_US + age_us, said)
    assert found == ({0: 7, 1: 7} if is_trusted else {0: None, 1: None})
    assert len(said) == (0 if is_trusted else 2)
    again.close()


def firsts(records: tuple[bytes, ...]) -> list[int]:
    return [decode_event_record(each).first_event_id for each in records]


@pytest.mark.parametrize("kind", ["rocksdb", "memory"])
def test_a_page_of_a_history_begins_with_the_record_that_holds_its_first_event(
    store: PartitionedStore, kind: str
) -> None:
    records = [event("1-a"), event("1-a", 2), event("1-a", 4)]
    found: PartitionedStore | MemoryStore = store
    if kind == "memory":
        medium = MemoryMedium()
        found = MemoryStore(medium)
        medium.write(Batch(1, events=[(each, encode_event_record(each)) for each in records]), 0, [])
        found.open()
    else:
        store.apply(batch(1, *records))
    pages = {begin: firsts(found.page("1-a", "run-1-a", begin).records) for begin in (1, 2, 3, 4, 5)}
    assert pages == {1: [1, 2, 4], 2: [2, 4], 3: [2, 4], 4: [4], 5: [4]}
    assert found.page("1-b", "run-1-a", 1).records == (), "it is another workflow's run"


def test_what_begins_and_ends_and_begins_again_in_a_round_is_there() -> None:
    net = NetEffects()
    again, gone = timer("0-a", 5), timer("0-a", 6)
    net.arm(gone)
    net.disarm(gone)
    net.disarm(again)
    net.arm(again)
    net.end_task(("run-1", 1), is_step=False)
    net.dispatch(task(1))
    net.dispatch(task(2))
    net.end_task(("run-1", 2), is_step=False)
    assert (net._timers, net._timers_ended) == ({again}, {gone})
    assert (set(net._tasks), net._tasks_ended) == ({("run-1", 1)}, {("run-1", 2)})
