"""Actions that the code withdraws in the activation in which it asked for them."""

from __future__ import annotations

from typing import Any

from perdure.model.actions import CancelTimer, StartTimer
from perdure.replay.pending import Actions, Pending

MANY = 2_000


class CountedList(list[Any]):
    """A list that counts how often an item is read."""

    reads = 0

    def __getitem__(self, place: Any) -> Any:
        self.reads += 1
        return super().__getitem__(place)


def timers(count: int) -> tuple[Actions, Pending[object]]:
    actions = Actions()
    pending: Pending[object] = Pending(actions, StartTimer, CancelTimer)
    for number in range(1, count + 1):
        actions.items.append(StartTimer(number, 5))
        pending.waiting[number] = object()
    return actions, pending


def test_the_cost_of_cancelling_many_actions_grows_with_their_number_and_not_its_square() -> None:
    actions, pending = timers(MANY)
    actions.take()
    actions.items = counted = CountedList()
    for number in range(1, MANY + 1):
        pending.cancelled(number)
    assert actions.take() == [CancelTimer(number) for number in range(1, MANY + 1)]
    assert counted.reads <= 4 * MANY


def test_many_actions_are_withdrawn_at_the_same_cost() -> None:
    actions, pending = timers(MANY)
    actions.items = counted = CountedList(actions.items)
    for number in range(1, MANY + 1):
        pending.cancelled(number)
    assert actions.take() == []
    assert counted.reads <= 4 * MANY


def test_what_is_withdrawn_leaves_the_other_actions_in_their_order() -> None:
    actions, pending = timers(4)
    pending.cancelled(2)
    actions.items.append(StartTimer(5, 5))
    pending.waiting[5] = object()
    pending.cancelled(1)
    assert actions.take() == [StartTimer(3, 5), StartTimer(4, 5), StartTimer(5, 5)]
    pending.cancelled(5)  # it was taken: now it must be cancelled
    assert actions.take() == [CancelTimer(5)]


def test_an_action_is_withdrawn_once() -> None:
    actions, _ = timers(2)
    assert actions.withdraw(StartTimer, 2)
    assert not actions.withdraw(StartTimer, 2)
    assert not actions.withdraw(CancelTimer, 1)
    assert actions.take() == [StartTimer(1, 5)]


def test_cleared_actions_are_forgotten() -> None:
    actions, _ = timers(2)
    assert actions.withdraw(StartTimer, 2)
    actions.clear()
    assert not actions.withdraw(StartTimer, 1)
    actions.items.append(StartTimer(9, 5))
    assert actions.withdraw(StartTimer, 9)
