"""Activities as futures."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from perdure.model.actions import CancelActivity, ScheduleActivity, StartTimer
from perdure.model.options import ActivityOptions

if TYPE_CHECKING:
    from tests.unit.replay.conftest import Driven


def test_it_is_scheduled_at_the_call_with_its_encoded_arguments(driven: Driven) -> None:
    async def program() -> str:
        return str(await driven.act("charge", "order-1", 35))

    task = driven.begin(program)
    assert driven.wanted() == [ScheduleActivity(1, "charge", b"('order-1', 35)", ActivityOptions())]
    assert driven.runtime.activities.waiting[1][0].name == "charge"
    assert driven.resolve(1, "receipt")
    assert task.result() == "receipt"
    assert driven.runtime.activities.waiting == {}


def test_activities_and_timers_count_apart_from_one(driven: Driven) -> None:
    async def program() -> None:
        await asyncio.gather(driven.act(), asyncio.sleep(1), driven.act(), asyncio.sleep(2))

    driven.begin(program)
    numbers = [(type(action), getattr(action, "number", 0)) for action in driven.wanted()]
    assert numbers == [(ScheduleActivity, 1), (ScheduleActivity, 2), (StartTimer, 1), (StartTimer, 2)]
    assert (driven.runtime.activities.count, driven.loop.timers.count) == (2, 2)


def test_arguments_that_cannot_be_encoded_raise_at_the_call_and_take_no_number(driven: Driven) -> None:
    async def program() -> None:
        with pytest.raises(ValueError, match="activity 'charge'"):
            driven.act("charge", "unencodable")
        await driven.act("refund")

    driven.begin(program)
    assert [getattr(action, "number", 0) for action in driven.wanted()] == [1]


def test_a_failure_raises_where_it_is_awaited(driven: Driven) -> None:
    async def program() -> str:
        try:
            return str(await driven.act())
        except ValueError as error:
            return f"caught {error}"

    task = driven.begin(program)
    assert driven.reject(1, ValueError("no"))
    assert task.result() == "caught no"


def test_a_cancelled_wait_asks_the_activity_to_stop_and_continues_immediately(driven: Driven) -> None:
    async def program() -> str:
        try:
            await asyncio.wait_for(driven.act(), 1)
        except TimeoutError:
            return "late"
        return "in time"

    task = driven.begin(program)
    driven.wanted()
    driven.fire(1, after_us=1_000_000)
    assert driven.wanted() == [CancelActivity(1)]
    assert task.result() == "late"
    assert not driven.resolve(1)


def test_one_scheduled_and_cancelled_in_one_activation_leaves_its_number_only(driven: Driven) -> None:
    async def program() -> None:
        future = driven.act("never")
        future.cancel()
        await driven.act("charge")

    driven.begin(program)
    assert [(getattr(a, "number", 0), getattr(a, "name", "")) for a in driven.wanted()] == [(2, "charge")]


def test_one_that_has_ended_is_not_cancelled(driven: Driven) -> None:
    async def program() -> bool:
        future = driven.act()
        await future
        return bool(future.cancel())

    task = driven.begin(program)
    driven.wanted()
    driven.resolve(1)
    assert task.result() is False
    assert driven.wanted() == []


def test_a_result_is_delivered_once(driven: Driven) -> None:
    async def program() -> list[str]:
        first, second = driven.act(), driven.act()
        return [str(await first), str(await second)]

    task = driven.begin(program)
    assert driven.resolve(1, "a")
    assert not driven.resolve(1, "b")
    assert not driven.reject(1, ValueError())
    assert driven.resolve(2, "c")
    assert task.result() == ["a", "c"]
