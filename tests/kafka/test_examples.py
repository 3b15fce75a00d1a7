"""The smaller examples on a real broker: engine and worker are killed half way, and everything that
the world outside was asked for is counted by its key."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from one_click_buy.activities import Item as Buy
from one_click_buy.workflows import Purchase, State
from shopping_cart.workflows import Cart, Item
from subscription.workflows import PERIODS_A_RUN, Account, Subscription

from perdure.client import Client, Handle
from perdure.errors import (
    Cancelled,
    EngineUnavailable,
    QueryFailed,
    UpdateRejected,
    WorkflowAlreadyStarted,
    WorkflowFailed,
)
from tests.kafka.namespace import ROOT, Namespace

PATIENCE_S = 90


class Company:
    """Engine and worker of one app."""

    def __init__(self, namespace: Namespace, folder: Path, app: str, **settings: str) -> None:
        self._namespace = namespace
        self._folder = folder
        self._app = f"examples/{app}/app.py"
        self._environment = {**os.environ, **settings}
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        where = ["--kafka", self._namespace.bootstrap, "--namespace", self._namespace.name]
        where += ["--instance", "one", "--static"]  # a successor needs no session to expire
        state_dir = ["--state-dir", str(self._folder / f"state-{os.urandom(4).hex()}")]
        for command in (["engine", self._app, *state_dir], ["worker", self._app]):
            self._running.append(
                subprocess.Popen(
                    [sys.executable, "-m", "perdure.cli", *command, *where], cwd=ROOT, env=self._environment
                )
            )

    def kill(self) -> None:
        for each in self._running:
            each.kill()
            each.wait()
        self._running.clear()

    async def restart(self, handle: Handle[Any, Any]) -> None:
        """Kill both and start others; return when the new engine answers."""
        self.kill()
        self.start()
        is_back = False
        while not is_back:
            with suppress(EngineUnavailable):
                is_back = await answers(handle)

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[Client]:
        address = f"kafka://{self._namespace.bootstrap}/{self._namespace.name}"
        self.start()
        try:
            async with Client.connect(address) as client, asyncio.timeout(PATIENCE_S):
                yield client
        finally:
            self.kill()


def entries(ledger: Path, what: str, of: str = "") -> dict[str, dict[str, Any]]:
    """What was asked for, by key: a repeated attempt counts once."""
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    found = [json.loads(line) for line in lines]
    return {each["key"]: each for each in found if each["what"] == what and of in ("", each["of"])}


async def answers(handle: Handle[Any, Any]) -> bool:
    """Whether an engine does; that it knows no such query is an answer."""
    with pytest.raises(QueryFailed):
        await handle.query_by_name("that no workflow has")
    return True


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.05)


def test_purchases_are_charged_and_shipped_once_or_released(namespace: Namespace, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    company = Company(namespace, tmp_path, "one_click_buy", BUY_LEDGER=str(ledger), BUY_WINDOW_S="10")
    names = [f"purchase-{number}" for number in range(6)]

    async def scenario() -> None:
        async with company.client() as client:
            purchases = [await client.start(name, Purchase.buy, "Ada", Buy("teapot", 2400)) for name in names]
            for each in purchases:
                while (await each.view(Purchase.status)).state is not State.OPEN:
                    await asyncio.sleep(0.05)
            for each in purchases[:3]:
                assert await each.update(Purchase.add, Buy("cup", 650)) == 3050
            await purchases[0].cancel("second thoughts")
            await company.restart(purchases[0])
            with pytest.raises(WorkflowFailed) as failed:
                await purchases[0].result()
            assert isinstance(failed.value.cause, Cancelled)
            for each in purchases[1:]:
                await each.result()

    asyncio.run(scenario())
    charged = [each["cents"] for name in names for each in entries(ledger, "charge", name).values()]
    assert charged == [3050, 3050, 2400, 2400, 2400]
    shipped = [each["skus"] for name in names for each in entries(ledger, "ship", name).values()]
    assert shipped == [["teapot", "cup"]] * 2 + [["teapot"]] * 3
    assert [each["of"] for each in entries(ledger, "release").values()] == [names[0]]


def test_a_subscription_is_charged_once_a_period_over_several_runs(
    namespace: Namespace, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    settings = {"SUBSCRIPTION_LEDGER": str(ledger), "SUBSCRIPTION_DAY_S": "0.01"}
    company = Company(namespace, tmp_path, "subscription", **settings)

    def charges() -> list[int]:
        return [each["cents"] for each in entries(ledger, "charge").values()]

    async def scenario() -> int:
        async with company.client() as client:
            ada = await client.start("ada", Subscription.live, Account("ada", 900))
            await until(lambda: len(entries(ledger, "charge")) > 3)
            await company.restart(ada)
            assert (await ada.update(Subscription.change_price, 1200)).cents == 1200
            with pytest.raises(UpdateRejected, match="a price is positive"):
                await ada.update(Subscription.change_price, 0)
            await until(lambda: len(charges()) > 2 * PERIODS_A_RUN and charges()[-1] == 1200)
            await ada.signal(Subscription.cancel)
            return await ada.result()

    paid = asyncio.run(scenario())
    charged = charges()
    assert len(charged) == paid > 2 * PERIODS_A_RUN
    assert charged == sorted(charged)
    assert {charged[0], charged[-1]} == {900, 1200}
    mails = [each["text"] for each in entries(ledger, "mail").values()]
    assert [text.split()[0] for text in mails] == ["Welcome!", "Your"]


def test_a_cart_is_paid_once_and_a_forgotten_one_writes_once(namespace: Namespace, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    company = Company(namespace, tmp_path, "shopping_cart", CART_LEDGER=str(ledger), CART_DAY_S="4")

    async def scenario() -> None:
        async with company.client() as client:
            shop = client.options(if_closed="refuse")
            cart, forgotten = (shop.with_start(name, Cart.shop) for name in ("cart-1", "cart-2"))
            assert await cart.update(Cart.add, Item("teapot", 2400)) == 2400
            assert await forgotten.update(Cart.add, Item("cup", 650)) == 650
            await forgotten.update(Cart.set_email, "ada@example.org")
            await company.restart(cart)
            assert await cart.update(Cart.add, Item("cup", 650), count=2) == 3700
            assert await cart.update(Cart.check_out) == 3700
            assert (await cart.result()).is_paid
            with pytest.raises(WorkflowAlreadyStarted):
                await shop.with_start("cart-1", Cart.shop).update(Cart.add, Item("cup", 650))
            await until(lambda: entries(ledger, "mail"))
            assert await forgotten.update(Cart.check_out) == 650
            assert (await forgotten.result()).is_paid

    asyncio.run(scenario())
    assert {each["of"]: each["cents"] for each in entries(ledger, "pay").values()} == {
        "cart-1": 3700,
        "cart-2": 650,
    }
    assert len(entries(ledger, "pay")) == 2
    assert [each["address"] for each in entries(ledger, "mail").values()] == ["ada@example.org"]
