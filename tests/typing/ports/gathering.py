"""asyncio's functions keep the types of activity calls."""

from __future__ import annotations

import asyncio
from typing import assert_type

from perdure import activity, workflow


@activity.defn
async def charge(cents: int) -> str:
    return str(cents)


@activity.defn
def note() -> None: ...


@activity.step
async def count() -> int:
    return 1


@workflow.defn
async def gathers() -> None:
    both = await asyncio.gather(charge(1), note())
    assert_type(both, tuple[str, None])
    three = await asyncio.gather(charge(1), note(), count())
    assert_type(three, tuple[str, None, int])
    same = await asyncio.gather(*(charge(cents) for cents in range(3)))
    assert_type(same, list[str])
    assert_type(await workflow.map(charge, [1, 2]), list[str])
    assert_type(await workflow.map(charge, [1, 2], concurrency=1, tolerate=1), list[str | Exception])
    kept = await asyncio.gather(charge(1), count(), return_exceptions=True)
    assert_type(kept, tuple[str | BaseException, int | BaseException])
    task = asyncio.create_task(count())
    assert_type(await task, int)
    assert_type(await asyncio.wait_for(charge(1), 3), str)
    assert_type(await asyncio.shield(count()), int)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(charge(1))
    assert_type(first.result(), str)
