"""Durable timers behind asyncio's clock."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
from typing import TYPE_CHECKING, Final

import pytest

from perdure.model.actions import CancelTimer, StartTimer
from perdure.replay.deadlines import LATEST

if TYPE_CHECKING:
    from tests.unit.replay.conftest import Driven

NOW: Final = 1_700_000_000_123_457


def test_a_sleep_is_a_timer_to_the_microsecond(driven: Driven) -> None:
    task = driven.begin(lambda: asyncio.sleep(1.5, "rested"))
    assert driven.wanted() == [StartTimer(1, NOW + 1_500_000)]
    assert driven.fire(1, after_us=1_500_000)
    assert task.result() == "rested"
    assert driven.wanted() == []


@pytest.mark.parametrize("delay", [0, -1])
def test_a_sleep_of_zero_starts_no_timer(driven: Driven, delay: float) -> None:
    assert driven.begin(lambda: asyncio.sleep(delay)).done()
    assert (driven.wanted(), driven.loop.timers.count) == ([], 0)


@pytest.mark.parametrize("now", [0, 1, NOW, 2_500_000_000_999_999, 4_000_000_000_333_333])
@pytest.mark.parametrize("delay_us", [1, 10, 1_000_000, 60_000_001, 86_400_000_000])
def test_a_timeout_fires_exactly_when_it_was_asked_for(driven: Driven, now: int, delay_us: int) -> None:
    driven.loop.now = now

    async def program() -> None:
        async with asyncio.timeout(delay_us / 1e6):
            await asyncio.get_running_loop().create_future()

    driven.begin(program)
    assert driven.wanted() == [StartTimer(1, now + delay_us)]


def test_microseconds_are_rounded_up(driven: Driven) -> None:
    driven.begin(lambda: asyncio.sleep(0.000_000_4))
    assert driven.wanted() == [StartTimer(1, NOW + 1)]


def test_a_deadline_in_the_past_is_a_timer_that_fires_now(driven: Driven) -> None:
    async def program() -> None:
        asyncio.get_running_loop().call_at(0, print)

    driven.begin(program)
    assert driven.wanted() == [StartTimer(1, NOW)]


def test_a_deadline_beyond_the_calendar_fires_at_its_end(driven: Driven) -> None:
    driven.begin(lambda: asyncio.sleep(math.inf))
    assert driven.wanted() == [StartTimer(1, LATEST)]
    dt.datetime.fromtimestamp(LATEST / 1e6, dt.UTC)


def test_a_deadline_that_is_not_a_number_is_refused(driven: Driven) -> None:
    with pytest.raises(ValueError, match="NaN"):
        driven.begin(lambda: asyncio.sleep(math.nan)).result()
    assert driven.wanted() == []


def test_a_timer_started_and_cancelled_in_one_activation_leaves_its_number_only(driven: Driven) -> None:
    async def program() -> None:
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        await asyncio.sleep(1)

    driven.begin(program)
    assert driven.wanted() == [StartTimer(2, NOW + 1_000_000)]


def test_a_timer_cancelled_later_is_cancelled_by_an_action(driven: Driven) -> None:
    async def program() -> None:
        async with asyncio.timeout(5):
            await driven.act()

    driven.begin(program)
    driven.wanted()
    driven.resolve(1)
    assert driven.wanted() == [CancelTimer(1)]
    assert not driven.fire(1)


def test_cancelling_a_handle_twice_cancels_once(driven: Driven) -> None:
    async def program() -> None:
        handle = asyncio.get_running_loop().call_later(5, print)
        await driven.act()
        handle.cancel()
        handle.cancel()
        assert handle.cancelled()

    driven.begin(program)
    driven.wanted()
    driven.resolve(1)
    assert driven.wanted() == [CancelTimer(1)]


def test_a_timer_that_has_fired_is_not_cancelled(driven: Driven) -> None:
    async def program() -> None:
        handle = asyncio.get_running_loop().call_later(1, int)
        await asyncio.sleep(1)
        handle.cancel()

    task = driven.begin(program)
    assert driven.fire(1, after_us=1_000_000)
    driven.wanted()
    driven.fire(2)
    assert task.done()
    assert driven.wanted() == []


def test_an_unknown_timer_is_ignored(driven: Driven) -> None:
    assert not driven.fire(3)


def test_time_is_that_of_the_event(driven: Driven) -> None:
    async def program() -> float:
        await driven.act()
        return asyncio.get_running_loop().time()

    task = driven.begin(program)
    driven.loop.now = NOW + 10_000_000
    driven.resolve(1)
    assert task.result() == (NOW + 10_000_000) / 1e6
    assert driven.runtime.now_us() == NOW + 10_000_000
