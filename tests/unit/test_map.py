"""`workflow.map`: one call for each of many items, a few at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure import activity, testing, workflow
from perdure.activity import Retry
from perdure.errors import ActivityFailed, Failure, UsageError, WorkflowFailed
from perdure.registry import Registry

UNDER_WAY: list[int] = []
MOST: list[int] = []


@activity.defn(retry=Retry(maximum_attempts=1))
async def double(number: int) -> int:
    UNDER_WAY.append(number)
    MOST.append(len(UNDER_WAY))
    await asyncio.sleep(0)
    UNDER_WAY.remove(number)
    if number % 10 == 7:
        raise Failure(f"no {number}")
    return 2 * number


@workflow.defn
async def mapped(numbers: list[int], concurrency: int | None, tolerate: int) -> list[str]:
    found = await workflow.map(double, numbers, concurrency=concurrency, tolerate=tolerate)
    return [str(each) for each in found]


@workflow.defn
async def stops() -> list[str]:
    """Running calls are cancelled when the map fails."""
    told: list[str] = []

    async def sleeps(seconds: int) -> None:
        try:
            await workflow.sleep(f"{seconds}s")
        except asyncio.CancelledError:
            told.append(f"{seconds} cancelled")
            raise
        if seconds == 2:
            raise Failure("two")

    try:
        await workflow.map(sleeps, [1, 2, 3, 4])
    except Failure as failed:
        told.append(str(failed))
    return told


@workflow.defn
async def odd(concurrency: Any, tolerate: Any) -> None:
    await workflow.map(double, [1], concurrency=concurrency, tolerate=tolerate)


def execute(run: Any, *args: Any) -> Any:
    UNDER_WAY.clear()
    MOST.clear()

    async def scenario() -> Any:
        async with testing.Environment(Registry.of([mapped, stops, odd], [double])) as env:
            return await env.client.execute("w", run, *args)

    return asyncio.run(scenario())


@pytest.mark.parametrize("concurrency", [None, 1, 3, 100])
def test_results_come_in_the_order_of_the_items(concurrency: int | None) -> None:
    assert execute(mapped, [3, 1, 2, 5, 4], concurrency, 0) == ["6", "2", "4", "10", "8"]
    assert max(MOST) <= (concurrency or 5)


def test_no_items_give_an_empty_list() -> None:
    assert execute(mapped, [], 3, 0) == []


def test_failures_that_are_tolerated_are_in_the_list() -> None:
    assert execute(mapped, [1, 7, 17, 2], None, 2) == ["2", "no 7", "no 17", "4"]


def test_one_failure_too_many_is_raised() -> None:
    with pytest.raises(WorkflowFailed) as failed:
        execute(mapped, [1, 7, 17, 2], 1, 1)
    assert isinstance(failed.value.cause, Failure)
    assert not isinstance(failed.value.cause, ActivityFailed)
    assert str(failed.value.cause) == "no 17"


def test_the_others_are_cancelled() -> None:
    assert execute(stops) == ["3 cancelled", "4 cancelled", "two"]


@pytest.mark.parametrize(("concurrency", "tolerate"), [(0, 0), (-1, 0), (1, -1)])
def test_invalid_numbers_are_refused(concurrency: int, tolerate: int) -> None:
    with pytest.raises(UsageError, match="must be at least"):
        execute(odd, concurrency, tolerate)


def test_it_is_for_workflow_code() -> None:
    with pytest.raises(UsageError, match="for workflow code"):
        asyncio.run(workflow.map(double, [1]))
