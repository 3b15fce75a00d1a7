"""One-click buy: half an hour to add or to cancel; then charged and shipped."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from one_click_buy import activities
from one_click_buy.activities import CardDeclined, Item, OutOfStock
from one_click_buy.workflows import WINDOW, Purchase, State

from perdure import testing
from perdure.client import Handle
from perdure.errors import Cancelled, UpdateFailed, UpdateRejected, WorkflowFailed, WorkflowNotFound

TEAPOT, CUP, UNICORN = Item("teapot", 24_00), Item("cup", 6_50), Item("unicorn", 1)
SAMOVAR = Item("samovar", 1001_00)


class World:
    """Notes what it was asked for; `failures` are raised first."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.failures: list[tuple[str, Exception]] = []

    def note(self, what: str, purchase: str, **facts: Any) -> None:
        assert purchase == "purchase-1"
        if self.failures and self.failures[0][0] == what:
            raise self.failures.pop(0)[1]
        self.done.append(" ".join([what, *(str(facts[each]) for each in ("cents", "skus") if each in facts)]))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    found = World()
    monkeypatch.setattr(activities, "note", found.note)
    return found


async def opened(env: testing.Environment, item: Item = TEAPOT) -> Handle[Purchase, str]:
    handle = await env.client.start("purchase-1", Purchase.buy, "Ada", item)
    await env.settle()
    assert (await handle.view(Purchase.status)).state is State.OPEN
    return handle


def test_a_purchase_is_charged_and_shipped_after_half_an_hour(world: World) -> None:
    async def scenario() -> None:
        async with testing.Environment() as env:
            handle = await opened(env)
            closes_at = (await handle.view(Purchase.status)).closes_at
            assert closes_at == env.now() + WINDOW
            await env.sleep(WINDOW - timedelta(seconds=1))
            assert world.done == ["reserve"]
            tracking = await handle.result()
            assert world.done == ["reserve", "charge 2400", "ship ['teapot']"]
            status = await handle.view(Purchase.status)
            assert (status.state, status.tracking, status.total_cents) == (State.SHIPPED, tracking, 24_00)

    asyncio.run(scenario())


def test_items_are_added_in_the_window_and_not_after_it(world: World) -> None:
    async def scenario() -> None:
        async with testing.Environment() as env:
            handle = await opened(env)
            assert await handle.update(Purchase.add, CUP) == 30_50
            with pytest.raises(UpdateFailed) as failed:
                await handle.update(Purchase.add, UNICORN)
            assert isinstance(failed.value.cause, OutOfStock)
            world.failures = [("charge", ConnectionError("no answer"))] * 3
            await env.sleep(WINDOW)
            with pytest.raises(UpdateRejected, match="the purchase is paying: it can no longer be changed"):
                await handle.update(Purchase.add, CUP)
            await handle.result()
            assert world.done == ["reserve", "reserve", "charge 3050", "ship ['teapot', 'cup']"]
            with pytest.raises(WorkflowNotFound):
                await handle.update(Purchase.add, CUP)

    asyncio.run(scenario())


def test_an_item_that_is_on_its_way_when_the_window_closes_is_part_of_the_parcel(world: World) -> None:
    async def scenario() -> None:
        async with testing.Environment() as env:
            handle = await opened(env)
            await env.sleep(WINDOW - timedelta(seconds=1))
            world.failures = [("reserve", ConnectionError("no answer"))] * 3
            added = asyncio.create_task(handle.update(Purchase.add, CUP))
            await handle.result()
            assert await added == 30_50
            assert world.done == ["reserve", "reserve", "charge 3050", "ship ['teapot', 'cup']"]

    asyncio.run(scenario())


def test_a_purchase_that_is_cancelled_in_the_window_charges_nothing_and_releases(world: World) -> None:
    async def scenario() -> None:
        async with testing.Environment() as env:
            handle = await opened(env)
            await env.restart()
            await handle.cancel("second thoughts")
            with pytest.raises(WorkflowFailed) as failed:
                await handle.result()
            assert isinstance(failed.value.cause, Cancelled)
            assert world.done == ["reserve", "release"]
            assert (await handle.view(Purchase.status)).state is State.CANCELLED

    asyncio.run(scenario())


def test_a_card_that_is_declined_releases_what_was_reserved(world: World) -> None:
    async def scenario() -> None:
        async with testing.Environment() as env:
            handle = await opened(env, SAMOVAR)
            with pytest.raises(WorkflowFailed) as failed:
                await handle.result()
            assert isinstance(failed.value.cause, CardDeclined)
            assert world.done == ["reserve", "refund", "release"]
            assert (await handle.view(Purchase.status)).state is State.FAILED

    asyncio.run(scenario())
