"""One timer of the loop serves the time limits of all attempts."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from perdure.worker.time_limits import Deadlines, TimeLimit


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**values: Any) -> None:
        asyncio.run(test(**values))

    return run


class Limits:
    """Limits on one set of deadlines, each around a task that waits for ever."""

    def __init__(self, deadlines: Deadlines | None = None) -> None:
        self.deadlines = deadlines or Deadlines()

    def begin(self, seconds: float) -> tuple[TimeLimit, asyncio.Task[Any]]:
        task = asyncio.ensure_future(asyncio.Event().wait())
        limit = TimeLimit(task, seconds, 0, deadlines=self.deadlines, alarm=None)
        limit.begin()
        return limit, task


@on_a_loop
async def test_limits_expire_in_the_order_of_their_deadlines() -> None:
    limits = Limits()
    (slow, slow_task), (quick, quick_task) = limits.begin(0.2), limits.begin(0.01)
    await asyncio.wait([quick_task])
    assert quick.has_expired
    assert not slow.has_expired
    await asyncio.wait([slow_task])
    assert slow.has_expired


@on_a_loop
async def test_limit_that_has_ended_does_not_cancel_its_task() -> None:
    limits = Limits()
    ended, ended_task = limits.begin(0.01)
    ended.end()
    other, other_task = limits.begin(0.02)
    await asyncio.wait([other_task])
    assert other.has_expired
    assert not ended.has_expired
    ended.expire()
    assert not ended_task.cancelling()
    ended_task.cancel()


@on_a_loop
async def test_limit_that_begins_after_its_end_does_nothing() -> None:
    """A thread may become free for an attempt that was given up."""
    limits = Limits()
    task = asyncio.ensure_future(asyncio.Event().wait())
    late = TimeLimit(task, 0.0, 0, deadlines=limits.deadlines, alarm=None)
    late.end()
    late.begin()
    _, other = limits.begin(0.01)
    await asyncio.wait([other])
    assert not task.cancelling()
    task.cancel()


@on_a_loop
async def test_cancellation_by_another_is_not_that_of_the_limit() -> None:
    limit, task = Limits().begin(60)
    assert not limit.has_cancelled()
    limit.expire()
    assert limit.has_cancelled()
    task.cancel()
    assert not limit.has_cancelled()


def test_deadlines_serve_one_loop_after_another() -> None:
    deadlines = Deadlines()

    async def abandoned() -> None:
        _, task = Limits(deadlines).begin(0.01)
        task.cancel()

    async def waits() -> bool:
        limit, task = Limits(deadlines).begin(60)
        limit.end()
        short, short_task = Limits(deadlines).begin(0.02)
        await asyncio.wait([short_task])
        task.cancel()
        return short.has_expired

    asyncio.run(abandoned())
    assert asyncio.run(waits())


@pytest.mark.parametrize("count", [1, 50])
@on_a_loop
async def test_limits_with_one_deadline_expire_together(count: int) -> None:
    limits = Limits()
    tasks = [limits.begin(0.01)[1] for _ in range(count)]
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
