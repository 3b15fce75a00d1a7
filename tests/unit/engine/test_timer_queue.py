"""The queue gives what a sorted list of all timers would give, though it holds a page or two of
them."""

from __future__ import annotations

from bisect import insort
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.engine.timers import TimerQueue
from perdure.model.timers import Timer, TimerKind


def timer(fires_at: int, number: int = 0) -> Timer:
    return Timer(fires_at, "run-1", TimerKind.CODE, number, "order-1")


class Timers:
    """Of a store, the timers; counts what is read."""

    def __init__(self, *held: Timer) -> None:
        self.held = sorted(held)
        self.reads = 0

    def timers(self, after: Timer | None, limit: int) -> list[Timer]:
        self.reads += 1
        return [each for each in self.held if after is None or each > after][:limit]

    def apply(self, armed: set[Timer], ended: set[Timer]) -> None:
        self.held = [each for each in self.held if each not in ended and each not in armed]
        for each in armed:
            insort(self.held, each)


def queue_of(store: Any, page: int = 3) -> TimerQueue:
    queue = TimerQueue(store, page)
    queue.load()
    return queue


def test_timers_are_due_in_their_order_and_never_early() -> None:
    queue = queue_of(Timers(timer(30), timer(10), timer(20)), page=10)
    assert queue.next_at() == 10
    assert queue.due(9) == []
    assert queue.due(20) == [timer(10), timer(20)]
    assert queue.next_at() == 30


def test_timers_beyond_the_head_are_read_when_they_are_due() -> None:
    store = Timers(*(timer(at) for at in range(10)))
    queue = queue_of(store)
    assert store.reads == 0, "not before it is asked"
    assert queue.next_at() == 0
    assert store.reads == 1
    assert [each.fires_at for _ in range(4) for each in queue.due(100)] == list(range(10))


def test_a_sleeping_run_costs_no_memory() -> None:
    queue = queue_of(Timers(*(timer(at) for at in range(1000))))
    for at in range(2000, 3000):
        queue.arm([timer(at)])
    assert len(queue._heap) <= 6


def test_a_head_that_grows_is_trimmed_and_read_again_later() -> None:
    store = Timers()
    queue = queue_of(store)
    for at in range(20, 0, -1):
        store.apply({timer(at)}, set())
        queue.arm([timer(at)])
    assert len(queue._heap) <= 6
    found: list[int] = []
    while (next_at := queue.next_at()) is not None:
        found += [each.fires_at for each in queue.due(next_at)]
    assert found == list(range(1, 21))


def test_a_cancelled_timer_is_not_due() -> None:
    store = Timers(timer(10), timer(20))
    queue = queue_of(store, page=10)
    store.apply(set(), {timer(10)})
    queue.disarm([timer(10)])
    assert queue.due(20) == [timer(20)]


def test_a_timer_that_fired_can_be_armed_again_for_the_same_moment() -> None:
    store = Timers(timer(10))
    queue = queue_of(store, page=10)
    assert queue.due(10) == [timer(10)]
    queue.disarm([timer(10)])
    queue.arm([timer(10)])
    assert queue.due(10) == [timer(10)]


def test_an_aborted_batch_finds_its_timers_again() -> None:
    queue = queue_of(Timers(timer(10)), page=10)
    assert queue.due(10) == [timer(10)]
    queue.load()
    assert queue.due(10) == [timer(10)]


@pytest.mark.parametrize("page", [1, 2, 5])
def test_no_timers_at_all(page: int) -> None:
    queue = queue_of(Timers(), page)
    assert queue.next_at() is None
    assert queue.due(10**18) == []
    queue.arm([timer(5)])
    assert queue.due(5) == [timer(5)]


MOVES = st.one_of(
    st.tuples(st.just("arm"), st.integers(0, 60)),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
    st.tuples(st.just("pass"), st.integers(0, 12)),
    st.tuples(st.just("abort"), st.just(0)),
    st.tuples(st.just("restart"), st.just(0)),
)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.lists(MOVES, max_size=60), st.integers(1, 4), st.lists(st.integers(0, 40), max_size=12))
def test_it_is_as_a_sorted_list_whatever_happens(
    moves: list[tuple[str, int]], page: int, held: list[int]
) -> None:
    model = sorted({timer(at, number) for number, at in enumerate(held)})
    store = Timers(*model)
    queue = queue_of(store, page)
    now, numbers = 0, len(held)
    for move, value in moves:
        if move == "arm":
            numbers += 1
            new = timer(now + value, numbers)
            insort(model, new)
            store.apply({new}, set())
            queue.arm([new])
        elif move == "cancel" and model:
            gone = model.pop(value % len(model))
            store.apply(set(), {gone})
            queue.disarm([gone])
        elif move == "pass":
            now += value
            assert_same_are_due(queue, store, model, now)
        elif move == "abort":
            queue.due(now + 5)
            queue.load()
        elif move == "restart":
            queue = queue_of(store, page)
        next_at = queue.next_at()
        assert next_at is None or not model or next_at <= model[0].fires_at, "it would sleep too long"
        assert not model or next_at is not None
    assert_same_are_due(queue, store, model, 10**9)
    assert not model


def assert_same_are_due(queue: TimerQueue, store: Timers, model: list[Timer], now: int) -> None:
    expected = [each for each in model if each.fires_at <= now]
    found: list[Timer] = []
    while taken := queue.due(now):
        found += taken
        store.apply(set(), set(taken))
        queue.disarm(taken)
    assert found == expected
    del model[: len(expected)]
