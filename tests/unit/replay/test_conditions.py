"""`wait_until`: evaluated at the call and after each drain; one waiter is woken at a time."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any, Final

import pytest

from perdure.errors import UsageError
from perdure.model.actions import CancelTimer, StartTimer
from perdure.replay.conditions import wake_one

if TYPE_CHECKING:
    from tests.unit.replay.conftest import Driven

NOW: Final = 1_700_000_000_123_457


def test_one_that_holds_at_the_call_returns_without_yielding(driven: Driven) -> None:
    order: list[str] = []

    async def other() -> None:
        order.append("other")

    async def program() -> str:
        _ = asyncio.create_task(other())  # noqa: RUF006 - the loop holds it
        value = await driven.runtime.wait_until(lambda: "there", 5_000_000)
        order.append("program")
        return str(value)

    assert driven.begin(program).result() == "there"
    assert order == ["program", "other"]
    assert driven.wanted() == []


def test_it_returns_what_its_condition_returned(driven: Driven) -> None:
    state: dict[str, str] = {}

    async def program() -> Any:
        return await driven.runtime.wait_until(lambda: state.get("name"), None)

    task = driven.begin(program)
    driven.loop.run()
    assert not task.done()
    state["name"] = "Ada"
    driven.loop.run()
    assert task.result() == "Ada"


def test_only_the_oldest_is_woken_so_that_its_condition_still_holds(driven: Driven) -> None:
    free = [False]
    used: list[tuple[int, bool]] = []

    async def use(number: int) -> None:
        await driven.runtime.wait_until(lambda: free[0], None)
        used.append((number, free[0]))
        free[0] = False

    async def program() -> None:
        await asyncio.gather(*map(use, range(3)))

    task = driven.begin(program)
    for turn in range(3):
        free[0] = True
        driven.loop.run()
        assert used == [(number, True) for number in range(turn + 1)]
    assert task.done()


def test_waiters_that_all_may_go_all_go_in_one_activation(driven: Driven) -> None:
    free = [False]

    async def program() -> list[Any]:
        return await asyncio.gather(*(driven.runtime.wait_until(lambda: free[0], None) for _ in range(5)))

    task = driven.begin(program)
    free[0] = True
    driven.loop.run()
    assert task.result() == [True] * 5


def test_a_younger_waiter_goes_when_the_older_one_cannot(driven: Driven) -> None:
    level = [0]

    async def program() -> None:
        async def one(least: int) -> None:
            await driven.runtime.wait_until(lambda: level[0] >= least, None)
            went.append(least)

        await asyncio.gather(one(3), one(2), one(1))

    went: list[int] = []
    driven.begin(program)
    for level[0] in (1, 2, 3):
        driven.loop.run()
    assert went == [1, 2, 3]


def test_a_timeout_gives_the_last_falsy_value(driven: Driven) -> None:
    parcels: list[str] = []

    async def program() -> Any:
        return await driven.runtime.wait_until(lambda: parcels, 5_000_000)

    task = driven.begin(program)
    assert driven.wanted() == [StartTimer(1, NOW + 5_000_000)]
    driven.fire(1, after_us=5_000_000)
    assert task.result() is parcels
    assert driven.wanted() == []


def test_its_timer_is_cancelled_when_the_condition_holds(driven: Driven) -> None:
    ready = [False]

    async def program() -> None:
        await driven.runtime.wait_until(lambda: ready[0], 5_000_000)

    task = driven.begin(program)
    driven.wanted()
    ready[0] = True
    driven.loop.run()
    assert task.done()
    assert driven.wanted() == [CancelTimer(1)]


def test_a_timeout_of_zero_asks_once(driven: Driven) -> None:
    async def program() -> Any:
        return await driven.runtime.wait_until(lambda: 0, 0)

    assert driven.begin(program).result() == 0
    assert driven.wanted() == []


def test_a_condition_that_raises_raises_where_it_is_awaited(driven: Driven) -> None:
    calls = [0]

    def condition() -> bool:
        calls[0] += 1
        if calls[0] > 1:
            raise KeyError("gone")
        return False

    async def program() -> str:
        try:
            await driven.runtime.wait_until(condition, None)
        except KeyError:
            return "caught"
        return "not reached"

    task = driven.begin(program)
    driven.loop.run()
    assert task.result() == "caught"
    assert calls == [2]


@pytest.mark.parametrize("what", ["an activity", "a task", "a timer", "a wake-up", "a random number"])
def test_a_condition_may_only_read(driven: Driven, what: str) -> None:
    async def program() -> None:
        waiting = asyncio.get_running_loop().create_future()
        waiting.add_done_callback(print)
        tries = {
            "an activity": driven.act,
            "a task": lambda: asyncio.create_task(asyncio.sleep(0)),
            "a timer": lambda: asyncio.get_running_loop().call_later(1, print),
            "a wake-up": lambda: waiting.set_result(None),
            "a random number": driven.runtime.random,
        }
        await driven.runtime.wait_until(tries[what], None)

    with pytest.raises(UsageError, match="may only read"):
        driven.begin(program).result()
    assert driven.wanted() == []


def test_a_coroutine_function_is_refused_as_a_condition(driven: Driven) -> None:
    async def condition() -> bool:
        return True

    async def program() -> None:
        await driven.runtime.wait_until(condition, None)

    with pytest.raises(UsageError, match="plain function"):
        driven.begin(program).result()


def test_a_cancelled_waiter_is_forgotten(driven: Driven) -> None:
    asked = [0]

    def condition() -> bool:
        asked[0] += 1
        return False

    async def program() -> None:
        await driven.runtime.wait_until(condition, 5_000_000)

    task = driven.begin(program)
    driven.wanted()
    task.cancel()
    driven.loop.run()
    before = asked[0]
    driven.loop.run()
    assert task.cancelled()
    assert asked[0] == before
    assert driven.wanted() == [CancelTimer(1)]


def test_a_condition_sees_the_context_of_who_waits(driven: Driven) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    async def program() -> None:
        variable.set("mine")
        await driven.runtime.wait_until(lambda: seen.append(variable.get()), None)

    driven.begin(program)
    assert set(seen) == {"mine"}
    assert len(seen) > 1


def test_many_that_one_change_wakes_cost_one_look_each() -> None:
    looks: list[int] = []

    class Future:
        def done(self) -> bool:
            looks.append(1)
            return False

    class Met:
        future = Future()

        def is_met(self, loop: Any) -> bool:
            return True

    waiting: list[Any] = [Met() for _ in range(1_000)]
    loop: Any = None
    while wake_one(waiting, loop):
        pass
    assert waiting == []
    assert len(looks) == 1_000
