"""The contract of `engine.ports.Store`, for every adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from perdure.codec.paging import PAGE_BYTES
from perdure.codec.records import decode_event_record
from perdure.engine.ports import Batch
from perdure.model.events import SignalReceived
from perdure.model.states import Status
from perdure.model.timers import TimerKind
from tests.contract.chronicle import Chronicle
from tests.contract.rocks import STORES
from tests.contract.samples import record, state, states, task, tasks, timer, with_record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from perdure.model.events import EventRecord
    from perdure.model.timers import Timer
    from tests.contract.media import Media, Node


@pytest.fixture(params=sorted(STORES))
def media(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Media]:
    media: Media = STORES[request.param](tmp_path)
    yield media
    media.close()


def test_an_empty_store_holds_nothing(node: Node) -> None:
    store = node.store
    assert store.state("w") is None
    assert store.events("w", "run-1") == []
    assert store.timers(None, 10) == []
    assert list(store.tasks()) == []
    assert store.suspended() == []
    assert store.latest_at() == 0


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_runs_that_run_are_given_page_by_page(node: Node, limit: int) -> None:
    ids = ("a", "ab", "b/c", "\u00e9", "z")
    node.write(
        states(*(state(each, f"run-{each}") for each in ids), state("s", status=Status.SUSPENDED), at=1)
    )
    node.write(states(state("k", status=Status.COMPLETED), state("m", status=Status.FAILED), at=2))
    found: list[tuple[str, str]] = []
    page, after = node.store.running(0, None, limit)
    found += page
    while after is not None:
        page, after = node.store.running(0, after, limit)
        found += page
        assert len(found) <= len(ids), "a run is given again"
    assert sorted(found) == sorted((each, f"run-{each}") for each in ids)


def test_the_history_of_a_run_is_given_in_order_and_apart_from_others(node: Node) -> None:
    second = record("run-1", 3, SignalReceived("again", b"[]"), at=2)
    node.write(with_record(with_record(Batch(1), record("run-1")), record("run-2")))
    node.write(with_record(Batch(2), second))
    assert node.store.events("w", "run-1") == [record("run-1"), second]
    assert node.store.events("w", "run-2") == [record("run-2")]


def test_a_history_is_found_under_its_own_workflow_only(node: Node) -> None:
    node.write(with_record(Batch(1), record("run-1")))
    assert node.store.events("v", "run-1") == []


def test_a_page_of_a_history_is_cut_by_size_and_begins_where_it_is_asked_to(node: Node) -> None:
    payload = b'"%b"' % (b"x" * 100_000)
    history = [record("run-1", first, SignalReceived("go", payload), at=first) for first in range(1, 21)]
    for each in history:
        node.write(with_record(Batch(each.at), each))
    node.write(with_record(Batch(30), record("run-2", at=30)))
    found: list[EventRecord] = []
    begin = 1
    while begin:
        page = node.store.page("w", "run-1", begin)
        assert sum(map(len, page.records)) <= PAGE_BYTES
        found += map(decode_event_record, page.records)
        assert len(found) <= len(history), "a record is given again"
        begin = page.next_event_id
    assert found == history
    assert node.store.page("v", "run-1", 1).records == ()
    assert node.store.page("w", "run-3", 1).records == ()


def test_many_records_of_a_run_stay_in_order(node: Node) -> None:
    for first in (*range(9, 12), *range(99, 102)):
        node.write(with_record(Batch(first), record("run-1", first, SignalReceived("go", b"[]"))))
    assert [each.first_event_id for each in node.store.events("w", "run-1")] == [9, 10, 11, 99, 100, 101]


def test_a_long_history_is_given_whole(node: Node) -> None:
    records = [
        record("run-1"),
        *(record("run-1", first, SignalReceived("go", b"[]")) for first in range(3, 60)),
    ]
    for each in records:
        node.write(with_record(Batch(each.first_event_id), each))
        assert node.store.events("w", "run-1")[-1] == each
    assert node.store.events("w", "run-1") == records


def test_the_state_is_the_last_one_written(node: Node) -> None:
    node.write(states(state("w", view=b"1"), state("v")))
    node.write(states(state("w", view=b"2"), at=2))
    assert node.store.state("w") == state("w", view=b"2")
    assert node.store.state("v") == state("v")
    node.write(states(state("w", "run-2", started_at=9), at=9))
    assert node.store.state("w") == state("w", "run-2", started_at=9)


def test_timers_are_given_in_their_order_page_by_page(node: Node) -> None:
    expected = sorted(
        [
            *(
                timer(at, f"run-{run}", number)
                for at in (5, 1, 100_000_000_000_000_000, 20)
                for run in (2, 1, 10)
                for number in (10, 9)
            ),
            *(timer(5, "run-1", 9, kind) for kind in TimerKind if kind is not TimerKind.CODE),
        ]
    )
    batch = Batch(1)
    batch.timers = set(expected)
    node.write(batch)
    assert node.store.timers(None, 1_000) == expected
    pages: list[Timer] = []
    while page := node.store.timers(pages[-1] if pages else None, 5):
        assert len(page) <= 5
        pages += page
        assert len(pages) <= len(expected), "a timer is given again"
    assert pages == expected


def test_the_earliest_timer_that_there_can_be_is_found(node: Node) -> None:
    batch = Batch(1)
    batch.timers = {timer(0), timer(1)}
    node.write(batch)
    assert node.store.timers(None, 10) == [timer(0), timer(1)]


def test_the_hash_chain_of_a_run_continues_from_its_last_record(node: Node) -> None:
    hashes: list[bytes] = []
    for first in (1, 3, 5):
        node.write(with_record(Batch(first), record("run-1", first, SignalReceived("go", b"[]"), at=first)))
        node.write(with_record(Batch(first), record("run-2", first, SignalReceived("go", b"[]"), at=first)))
        hashes.append(node.store.last_hash("w", "run-1"))
    assert len(set(hashes)) == 3
    assert node.store.last_hash("w", "run-3") == b""


def test_paging_continues_after_a_timer_that_was_removed(node: Node) -> None:
    batch = Batch(1)
    batch.timers = {timer(1), timer(2), timer(3)}
    node.write(batch)
    batch = Batch(2)
    batch.timers_ended = {timer(2)}
    node.write(batch)
    assert node.store.timers(timer(2), 10) == [timer(3)]
    assert node.store.timers(None, 10) == [timer(1), timer(3)]


def test_a_timer_of_the_same_time_but_another_kind_stays(node: Node) -> None:
    batch = Batch(1)
    batch.timers = {timer(1, kind=TimerKind.RETRY), timer(1, kind=TimerKind.CODE)}
    node.write(batch)
    batch = Batch(2)
    batch.timers_ended = {timer(1, kind=TimerKind.CODE)}
    node.write(batch)
    assert node.store.timers(None, 10) == [timer(1, kind=TimerKind.RETRY)]


def test_tasks_are_kept_until_they_end_steps_included(node: Node) -> None:
    node.write(tasks(task(1), task(2, queue=""), task(3)))
    batch = tasks(task(3, attempt=2), at=2)
    batch.tasks_ended = {("run-1", 1)}
    node.write(batch)
    assert sorted(node.store.tasks(), key=lambda each: each.number) == [task(2, queue=""), task(3, attempt=2)]


def test_tasks_come_oldest_first(node: Node) -> None:
    node.write(tasks(task(1, run_id="b", at=3), task(1, run_id="c", at=1), task(1, run_id="a", at=2)))
    assert [each.scheduled_at for each in node.store.tasks()] == [1, 2, 3]


def test_suspended_runs_are_found_until_they_are_resumed(node: Node) -> None:
    node.write(
        states(state("v", "run-v", status=Status.SUSPENDED), state("w"), state("u", status=Status.FAILED))
    )
    assert node.store.suspended() == [("v", "run-v")]
    node.write(states(state("v", "run-v"), state("w", status=Status.SUSPENDED), at=2))
    assert node.store.suspended() == [("w", "run-1")]
    node.write(states(state("w"), at=3))
    assert node.store.suspended() == []


def test_the_latest_at_is_that_of_the_last_batch_also_after_a_restart(media: Media, node: Node) -> None:
    node.write(with_record(Batch(1_790_000_000_000_000), record()))
    assert node.store.latest_at() == 1_790_000_000_000_000
    node.close()
    assert media.node().open().store.latest_at() == 1_790_000_000_000_000


def test_applying_a_batch_twice_changes_nothing(node: Node) -> None:
    batch = with_record(tasks(task(1)), record())
    batch.timers = {timer(5)}
    batch.states = {"w": state()}
    node.write(batch)
    node.store.apply(batch)
    assert node.store.events("w", "run-1") == [record()]
    assert node.store.timers(None, 10) == [timer(5)]
    assert list(node.store.tasks()) == [task(1)]


def test_a_store_that_was_left_behind_is_where_the_log_is_after_open(media: Media, node: Node) -> None:
    chronicle = Chronicle()
    node.write(chronicle.batch([(0, 1), (1, 1)]))
    batch = chronicle.batch([(0, 0), (0, 2), (1, 7), (2, 1)])
    assert batch.tasks
    assert batch.timers
    node.log.commit(batch)  # and no apply
    media.crash(node)
    store = media.node().open().store
    for each, _ in batch.events:
        assert store.events(each.workflow_id, each.run_id)[-1] == each
    assert set(batch.timers) <= set(store.timers(None, 10))
    assert list(store.tasks()) == sorted(
        batch.tasks.values(), key=lambda task: (task.scheduled_at, task.run_id, task.number)
    )
    assert {workflow_id: store.state(workflow_id) for workflow_id in batch.states} == batch.states
    assert store.latest_at() == batch.at


def test_what_a_batch_held_does_not_follow_the_batch_afterwards(node: Node) -> None:
    batch = with_record(tasks(task(1)), record())
    batch.timers = {timer(5)}
    node.write(batch)
    batch.timers.add(timer(6))
    batch.tasks.clear()
    batch.events.clear()
    assert node.store.timers(None, 10) == [timer(5)]
    assert list(node.store.tasks()) == [task(1)]
    assert node.store.events("w", "run-1") == [record()]


def test_states_of_a_batch_are_all_written_whether_or_not_there_was_one_before(node: Node) -> None:
    node.write(states(state("b")))
    node.write(states(state("a"), state("b", view=b"2"), state("c"), at=2))
    assert [node.store.state(each) for each in "abc"] == [state("a"), state("b", view=b"2"), state("c")]


def test_time_never_goes_back_over_a_restart(media: Media, node: Node) -> None:
    node.write(states(state("w"), at=50))
    node.write(states(state("w", view=b"2"), at=40))
    media.crash(node)
    assert media.node().open().store.latest_at() == 50
