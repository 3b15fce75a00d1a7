"""The store is a cache of the events: whatever happened, what was applied, what is restored and
what memory says are the same (I6)."""

from __future__ import annotations

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.adapters.rocksdb import rounds
from perdure.codec.avro import EVENTS
from perdure.codec.records import hash_of
from perdure.engine.ports import Batch
from perdure.model.events import AnyEvent, EventRecord, SignalReceived, WorkflowStarted, WorkflowTimedOut
from perdure.model.states import Status
from tests.contract.chronicle import WORKFLOWS, Chronicle, random_moves
from tests.contract.rocks import contents, in_memory, opened, take_over, take_over_all

MOVES = st.lists(st.tuples(st.integers(0, WORKFLOWS - 1), st.integers(0, 9_999)), min_size=1, max_size=6)
BATCHES = st.lists(MOVES, min_size=1, max_size=25)
SLOWLY = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SLOWLY
@given(BATCHES, st.integers(1, 3), st.integers(1, 9), st.integers(1, 20), st.integers(0, 2))
def test_what_was_applied_and_what_is_restored_from_the_events_alone_are_what_memory_says(
    moves: list[list[tuple[int, int]]], partitions: int, chunk: int, size: int, cached: int
) -> None:
    chronicle = Chronicle(partitions)
    with (
        TemporaryDirectory() as folder,
        patch.object(rounds, "ROUND", size),
        patch.object(rounds, "CACHED", cached),
    ):
        store, restorer = opened(Path(folder, "applied"), chronicle)
        take_over_all(restorer, chronicle)
        batches: list[Batch] = []
        for each in moves:
            batches.append(chronicle.batch(each))
            restorer.reached(chronicle.ends())
            store.apply(batches[-1])
        expected = contents(in_memory(batches), chronicle)
        assert contents(store, chronicle) == expected
        restored, restorer = opened(Path(folder, "restored"), chronicle)
        take_over_all(restorer, chronicle, chunk)
        assert contents(restored, chronicle) == expected
        last = {
            (record.workflow_id, record.run_id): record for batch in batches for record, _ in batch.events
        }
        for run, record in last.items():
            assert restored.last_hash(*run) == store.last_hash(*run) == hash_of(EVENTS.encode(record))
        restored.close()
        store.close()


@SLOWLY
@given(BATCHES, BATCHES, BATCHES, st.integers(0, 30), st.integers(1, 20))
def test_a_store_that_was_left_behind_catches_up_though_it_reads_records_again(
    applied: list[list[tuple[int, int]]],
    missed: list[list[tuple[int, int]]],
    later: list[list[tuple[int, int]]],
    again: int,
    size: int,
) -> None:
    chronicle = Chronicle(2)
    with TemporaryDirectory() as folder, patch.object(rounds, "ROUND", size):
        store, restorer = opened(Path(folder), chronicle)
        take_over_all(restorer, chronicle)
        batches: list[Batch] = []
        for each in applied:
            batches.append(chronicle.batch(each))
            restorer.reached(chronicle.ends())
            store.apply(batches[-1])
        store.close()
        batches += [chronicle.batch(each) for each in missed]
        store, restorer = opened(Path(folder), chronicle)
        take_over_all(restorer, chronicle, again=again)
        assert contents(store, chronicle) == contents(in_memory(batches), chronicle)
        for each in later:
            batches.append(chronicle.batch(each))
            restorer.reached(chronicle.ends())
            store.apply(batches[-1])
            store.apply(batches[-1])
        assert contents(store, chronicle) == contents(in_memory(batches), chronicle)
        store.close()


def history(seed: int, batches: int) -> Chronicle:
    chance, chronicle = Random(seed), Chronicle()
    for _ in range(batches):
        chronicle.batch(random_moves(chance))
    return chronicle


def test_the_highest_input_offset_is_known_after_a_restore_and_after_a_restart(tmp_path: Path) -> None:
    chronicle = history(1, 14)
    store, restorer = opened(tmp_path, chronicle)
    highest = max(
        EVENTS.decode(value or b"", EVENTS.header[1]).input_offset for _, _, value, _ in chronicle.topic[0]
    )
    assert take_over(restorer, 0, chronicle.topic[0]) == highest == 14
    store.close()
    store, restorer = opened(tmp_path, chronicle)
    assert take_over(restorer, 0, chronicle.topic[0]) == 14
    store.close()


def written(
    run_id: str, first: int, offset: int, *events: AnyEvent, workflow_id: str = "w-0/x"
) -> rounds.Record:
    """A record of the topic; `offset` is the input's."""
    record = EventRecord(workflow_id, run_id, first, first, 0, offset, b"", list(events))
    return first, f"{workflow_id}/{run_id}/{first}".encode(), EVENTS.encode(record), HEADERS


def test_the_input_offset_of_a_run_that_a_timer_ended_is_that_of_the_record_before(tmp_path: Path) -> None:
    topic = [
        written("a", 1, 7, WorkflowStarted("Order", b"", 311, 7)),
        written("a", 2, -1, WorkflowTimedOut()),
    ]
    store, restorer = opened(tmp_path, Chronicle())
    assert take_over(restorer, 0, topic) == 7
    store.close()


def test_a_new_run_outlives_the_tombstones_of_the_one_before(tmp_path: Path) -> None:
    topic = [
        written("a", 1, 7, WorkflowStarted("Order", b"", 311, 7)),
        written("a", 2, -1, WorkflowTimedOut()),
    ]
    store, restorer = opened(tmp_path, Chronicle())
    take_over(restorer, 0, topic)
    store.close()
    topic.append(written("b", 1, 9, WorkflowStarted("Order", b"", 311, 7)))
    topic += [(offset, topic[offset - 3][1], None, None) for offset in (3, 4)]
    for path in (tmp_path, tmp_path / "from the beginning"):
        store, restorer = opened(path, Chronicle())
        take_over(restorer, 0, topic)
        state = store.state("w-0/x")
        assert state is not None
        assert state.run_id == "b"
        assert store.events("w-0/x", "a") == []
        store.close()


def test_nothing_of_a_partition_shows_before_it_is_restored_or_after_it_is_closed(tmp_path: Path) -> None:
    chronicle = history(2, 20)
    store, restorer = opened(tmp_path, chronicle)
    restorer.open(0, len(chronicle.topic[0]))
    restorer.restore(0, chronicle.topic[0])
    empty = contents(in_memory([]), Chronicle())
    assert {name: found for name, found in contents(store, chronicle).items() if name in empty and found} == {
        "states": dict.fromkeys(dict(sorted(chronicle.everyone))),
        "events": {run_id: [] for _, run_id in chronicle.everyone},
    }
    restorer.restored(0, len(chronicle.topic[0]))
    assert store.timers(None, 1)
    restorer.close(0)
    restorer.close(0)
    assert store.timers(None, 1) == []
    store.close()


def test_an_interrupted_restore_continues_where_it_was(tmp_path: Path) -> None:
    chronicle = history(3, 60)
    topic = chronicle.topic[0]
    with patch.object(rounds, "ROUND", 10):
        store, restorer = opened(tmp_path, chronicle)
        assert restorer.open(0, len(topic)) is None
        for first in range(0, 60, 7):
            restorer.restore(0, topic[first : first + 7])
        restorer.close(0)
        store, restorer = opened(tmp_path, chronicle)
        assert restorer.open(0, len(topic)) == 56
        take_over(restorer, 0, topic)
    expected, fresh = opened(tmp_path / "another", chronicle)
    take_over(fresh, 0, topic)
    assert contents(store, chronicle) == contents(expected, chronicle)
    store.close()
    expected.close()


def test_a_run_that_was_deleted_leaves_nothing(tmp_path: Path) -> None:
    chronicle = history(4, 40)
    store, restorer = opened(tmp_path, chronicle)
    take_over(restorer, 0, chronicle.topic[0])
    assert store.timers(None, 1)
    store.close()
    chronicle.topic[0] += [
        (len(chronicle.topic[0]) + n, key, None, None) for n, (_, key, _, _) in enumerate(chronicle.topic[0])
    ]
    nothing: dict[str, object] = {"timers": [], "tasks": [], "suspended": []}
    for path in (tmp_path, tmp_path / "from the beginning"):
        store, restorer = opened(path, chronicle)
        take_over(restorer, 0, chronicle.topic[0])
        found = contents(store, chronicle)
        assert found | nothing == found
        assert not any(
            store.state(workflow_id) or store.events(workflow_id, run_id)
            for workflow_id, run_id in chronicle.everyone
        )
        store.close()


def test_a_run_whose_beginning_is_compacted_away_before_its_tombstones_is_no_fault(tmp_path: Path) -> None:
    chronicle = history(5, 30)
    topic = chronicle.topic[0]
    by_run: dict[bytes, list[rounds.Record]] = {}
    for each in topic:
        by_run.setdefault((each[1] or b"").rpartition(b"/")[0], []).append(each)
    mine = max(by_run.values(), key=len)
    assert len(mine) > 2
    first = EVENTS.decode(mine[0][2] or b"", EVENTS.header[1])
    topic += [(len(topic) + n, key, None, None) for n, (_, key, _, _) in enumerate(mine)]
    topic.remove(mine[0])
    for size in (1, 10_000):
        with patch.object(rounds, "ROUND", size):
            store, restorer = opened(tmp_path / str(size), chronicle)
            restorer.open(0, 1_000)
            for each in topic:
                restorer.restore(0, [each])
            restorer.restored(0, 1_000)
            assert store.events(first.workflow_id, first.run_id) == []
            store.close()


def encoded(record: EventRecord) -> bytes:
    return EVENTS.encode(record)


START = EventRecord("w-0/x", "run-a", 1, 5, 0, 0, b"", [WorkflowStarted("Order", b"[]", 311, 7)])
SIGNAL = EventRecord("w-0/x", "run-a", 2, 6, 0, 1, b"", [SignalReceived("go", b"[]")])
LATER = EventRecord("w-0/x", "run-a", 4, 7, 0, 2, b"", [SignalReceived("go", b"[]")])
HEADERS: list[tuple[str, bytes]] = [EVENTS.header]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ((2, None, b"x", HEADERS), "offset 2 is not a perdure record"),
        ((2, b"\xff\xfe/1", b"x", HEADERS), "offset 2 is not a perdure record"),
        ((2, b"hello", b"x", HEADERS), "offset 2 is not a perdure record"),
        *(
            ((2, b"w/r/" + number, value, HEADERS), "offset 2 is not a perdure record")
            for number in (b"0", b"-1", b"9" * 19, b"9" * 5_000)
            for value in (b"x", None)
        ),
        ((2, b"hello", None, None), "offset 2 is not a perdure record"),
        ((2, b"w-0/x/run-a/3", b"x", None), "no header perdure-schema"),
        ((2, b"w-0/x/run-a/3", b"x", [("perdure-schema", b"events/99/0")]), "is unknown"),
        ((2, b"w-0/x/run-a/3", b"garbage", HEADERS), "w-0/x/run-a was not updated"),
        ((2, b"w-0/x/run-a/3", encoded(LATER), HEADERS), "its key has event 3"),
        ((2, b"w-0/x/run-a/4", encoded(LATER), HEADERS), "gap after event 2: 4 is the next"),
        ((2, b"w-0/x/run-b/4", b"garbage", HEADERS), "w-0/x/run-b was not updated"),
        ((2, b"w-1/x/run-b/1", encoded(LATER), HEADERS), "w-1/x/run-b was not updated"),
    ],
)
def test_a_record_that_is_not_ours_is_reported_and_passed_over(
    tmp_path: Path, record: rounds.Record, said: str
) -> None:
    other = EventRecord("w-3/x", "run-c", 1, 9, 0, 3, b"", [WorkflowStarted("Order", b"[]", 311, 7)])
    topic: list[rounds.Record] = [
        (0, b"w-0/x/run-a/1", encoded(START), HEADERS),
        (1, b"w-0/x/run-a/2", encoded(SIGNAL), HEADERS),
        record,
        (3, b"w-3/x/run-c/1", encoded(other), HEADERS),
    ]
    told: list[str] = []
    store, restorer = opened(tmp_path, Chronicle(), told.append)
    take_over(restorer, 0, topic)
    assert store.events("w-0/x", "run-a") == [START, SIGNAL]
    assert store.events("w-3/x", "run-c") == [other]
    state = store.state("w-0/x")
    assert state is not None
    assert (state.status, state.history_length) == (Status.RUNNING, 2)
    assert len(told) == 1
    assert said in told[0]
    store.close()


def test_a_thousand_foreign_records_are_counted_and_twenty_are_named(tmp_path: Path) -> None:
    told: list[str] = []
    store, restorer = opened(tmp_path, Chronicle(), told.append)
    take_over(restorer, 0, [(offset, b"hello", b"world", None) for offset in range(1_000)])
    assert len(told) == 21
    assert "1000 faults in all" in told[-1]
    store.close()
