"""The cart: subtotals by update-with-start, checks before and after the check-out, a reminder."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from shopping_cart import activities
from shopping_cart.activities import CardDeclined
from shopping_cart.workflows import FORGOTTEN, IDLE, Cart, Contents, Item

from perdure import testing
from perdure.client import Handle
from perdure.errors import UpdateFailed, UpdateRejected, WorkflowAlreadyStarted

TEAPOT, CUP = Item("teapot", 24_00), Item("cup", 6_50)
SECOND = timedelta(seconds=1)


class World:
    """Notes what it was asked for; `failures` are raised first."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.failures: list[Exception] = []

    def note(self, what: str, cart: str, **facts: Any) -> None:
        if self.failures:
            raise self.failures.pop()
        self.done.append(f"{what} {facts.get('cents', facts.get('address'))}")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    found = World()
    monkeypatch.setattr(activities, "note", found.note)
    return found


def cart_of(env: testing.Environment) -> Handle[Cart, Contents]:
    return env.client.options(if_closed="refuse").with_start("cart-7", Cart.shop)


def test_each_change_answers_with_the_subtotal_and_the_first_starts_the_cart(world: World) -> None:
    async def scenario() -> None:
        async with testing.Environment() as env:
            cart = cart_of(env)
            answers = await asyncio.gather(cart.update(Cart.add, TEAPOT), cart.update(Cart.add, CUP, count=4))
            assert max(answers) == 50_00
            assert await cart.update(Cart.remove, "cup") == 24_00
            with pytest.raises(UpdateRejected, match="there is no cup in the cart"):
                await cart.update(Cart.remove, "cup")
            with pytest.raises(UpdateRejected, match="add 1 to 100"):
                await cart.update(Cart.add, CUP, count=0)
            assert (await cart.view(Cart.status)).items == [TEAPOT]

    asyncio.run(scenario())


def test_a_paid_cart_takes_no_changes_nor_one_that_is_being_paid(world: World) -> None:
    async def scenario() -> None:
        async with testing.Environment() as env:
            cart = cart_of(env)
            await cart.update(Cart.add, TEAPOT)
            world.failures = [ConnectionError("no answer")] * 3
            paid = asyncio.create_task(cart.update(Cart.check_out))
            await env.settle()
            with pytest.raises(UpdateRejected, match="the cart is checked out"):
                await cart.update(Cart.add, CUP)
            with pytest.raises(UpdateRejected, match="the cart is checked out"):
                await cart.update(Cart.check_out)
            await env.sleep("1 hour")
            assert await paid == 24_00
            assert await cart.result() == Contents([TEAPOT], is_paid=True)
            with pytest.raises(WorkflowAlreadyStarted):
                await cart_of(env).update(Cart.add, CUP)
            assert world.done == ["pay 2400"]

    asyncio.run(scenario())


def test_a_card_that_is_declined_leaves_the_cart_open(world: World) -> None:
    async def scenario() -> None:
        async with testing.Environment() as env:
            cart = cart_of(env)
            await cart.update(Cart.add, Item("samovar", 1001_00))
            with pytest.raises(UpdateFailed) as failed:
                await cart.update(Cart.check_out)
            assert isinstance(failed.value.cause, CardDeclined)
            assert await cart.update(Cart.remove, "samovar") == 0
            with pytest.raises(UpdateRejected, match="the cart is empty"):
                await cart.update(Cart.check_out)

    asyncio.run(scenario())


def test_a_cart_writes_after_a_day_without_a_change_and_each_change_starts_the_day_again(
    world: World,
) -> None:
    async def scenario() -> None:
        async with testing.Environment() as env:
            cart = cart_of(env)
            await cart.update(Cart.add, TEAPOT)
            await cart.update(Cart.set_email, "ada@example.org")
            for _ in range(3):
                await env.sleep(IDLE - SECOND)
                await cart.update(Cart.add, CUP)
            assert world.done == []
            await env.restart()
            await env.sleep(IDLE + SECOND)
            assert world.done == ["mail ada@example.org"]
            await env.sleep(IDLE * 5)
            assert world.done == ["mail ada@example.org"], "one reminder for one silence"
            await cart.update(Cart.add, CUP)
            await env.sleep(IDLE + SECOND)
            assert world.done == ["mail ada@example.org"] * 2
            await env.sleep(FORGOTTEN)
            assert not (await cart.result()).is_paid

    asyncio.run(scenario())


def test_a_cart_without_an_address_or_without_items_is_left_in_peace(world: World) -> None:
    async def scenario() -> None:
        async with testing.Environment() as env:
            cart = cart_of(env)
            with pytest.raises(UpdateRejected, match="'ada' is no e-mail address"):
                await cart.update(Cart.set_email, "ada")
            await cart.update(Cart.add, TEAPOT)
            await env.sleep(IDLE * 2)
            await cart.update(Cart.set_email, "ada@example.org")
            await cart.update(Cart.remove, "teapot")
            await env.sleep(IDLE * 2)
            assert world.done == []

    asyncio.run(scenario())
