"""A plain decorator around an async function leaves it an activity whose result is awaited, in a
run as outside."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from perdure import activity, testing, workflow
from perdure.registry import Registry


def logged(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapper(*args: Any) -> Any:
        return fn(*args)

    return wrapper


def anonymous(fn: Callable[..., Any]) -> Callable[..., Any]:
    def decorated_anonymously(number: int) -> Any:
        return fn(number)

    return decorated_anonymously


@activity.defn
@logged
async def decorated(number: int) -> int:
    await asyncio.sleep(0)
    assert activity.info().activity == "decorated"
    return number + 1


@activity.step
@logged
async def decorated_step(number: int) -> int:
    await asyncio.sleep(0)
    return number + 2


@activity.defn
@anonymous
async def hidden(number: int) -> int:
    await asyncio.sleep(0)
    return number + 3


@workflow.defn
async def calls_decorated() -> list[Any]:
    return [await decorated(1), await decorated_step(1), await hidden(1)]


def test_the_result_of_a_decorated_async_function_is_awaited() -> None:
    async def program() -> list[Any]:
        async with testing.Environment(
            Registry.of([calls_decorated], [decorated, decorated_step, hidden])
        ) as env:
            return await env.client.execute("w", calls_decorated)

    assert asyncio.run(program()) == [2, 3, 4]
    assert asyncio.run(decorated_step(1)) == 3
