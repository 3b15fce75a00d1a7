"""The food delivery example without a browser: what becomes of an order, what the drivers see, and
what attempts are written down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from food_delivery import attempts, board, web
from food_delivery.activities import charge, push, refund
from food_delivery.attempts import Feed
from food_delivery.board import Board, Watch, read
from food_delivery.workflows import Order, OrderStatus, State
from perdure import testing
from perdure.client import Client
from perdure.errors import EngineUnavailable, WorkflowFailed
from perdure.registry import Registry

RECEIVED = {"message": "Order received and persisted!"}


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the card company was asked for; no attempt fails."""
    monkeypatch.setattr(attempts, "FAILURE_RATE", 0.0)
    monkeypatch.setattr(attempts.feed, "_latest", type(attempts.feed._latest)(maxlen=1000))
    monkeypatch.setenv("FOOD_LEDGER", str(tmp_path / "ledger"))
    (tmp_path / "ledger").touch()
    return tmp_path / "ledger"


def booked(ledger: Path) -> list[tuple[str, str]]:
    entries = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert len({each["key"] for each in entries}) == len(entries)
    return [(each["what"], each["order"]) for each in entries]


def messages() -> list[str]:
    return [each.what for each in attempts.feed._latest if each.is_message]


def run(test: Callable[[testing.Environment, Client], Awaitable[None]]) -> None:
    async def main() -> None:
        async with testing.Environment(Registry.of([Order], [charge, push, refund])) as environment:
            await test(environment, environment.client)

    asyncio.run(main())


async def status(client: Client, id: str) -> OrderStatus:
    return await client.get(id, Order.process).view(Order.status)


def test_an_order_is_charged_once_and_goes_to_its_end(ledger: Path) -> None:
    async def test(environment: testing.Environment, client: Client) -> None:
        order = await client.start("o-1", Order.process, "burrata")
        await environment.settle()
        assert await status(client, "o-1") == OrderStatus("burrata", State.PAID, None, None)
        await order.signal(Order.delivered)
        await environment.settle()
        assert (await status(client, "o-1")).state is State.PAID, "nobody has picked it up"
        await environment.sleep("50s")
        await order.signal(Order.picked_up)
        await environment.sleep("50s")
        assert (await status(client, "o-1")).state is State.PICKED_UP
        await order.signal(Order.picked_up)
        delivered_at = environment.now()
        await order.signal(Order.delivered)
        await environment.settle()
        await order.signal(Order.picked_up)
        await environment.settle()
        found = await status(client, "o-1")
        assert (found.state, found.problem) == (State.DELIVERED, None)
        assert found.delivered_at is not None
        assert abs((found.delivered_at - delivered_at).total_seconds()) < 1
        assert len(messages()) == 2, "they are asked how it was a minute later"
        await order.result()
        assert messages() == [
            "Your burrata was picked up and is on its way.", "Your burrata was delivered. Enjoy!",
            "Rate your meal. How was the burrata?",
        ]  # fmt: skip
        assert (environment.now() - delivered_at).total_seconds() >= 60
        assert booked(ledger) == [("charge", "o-1")]

    run(test)


@pytest.mark.parametrize(
    ("is_picked_up", "why"),
    [(False, "No driver picked your order up in time."), (True, "Your order was not delivered in time.")],
)
def test_an_order_without_a_driver_is_refunded_once(ledger: Path, is_picked_up: bool, why: str) -> None:
    async def test(environment: testing.Environment, client: Client) -> None:
        order = await client.start("o-1", Order.process, "poke")
        await environment.settle()
        if is_picked_up:
            await order.signal(Order.picked_up)
        begun = environment.now()
        with pytest.raises(WorkflowFailed):
            await order.result()
        assert 59 <= (environment.now() - begun).total_seconds() <= 62, "a minute for each"
        found = await status(client, "o-1")
        assert (found.state, found.problem) == (State.FAILED, f"{why} Your payment has been refunded.")
        assert messages()[-1] == found.problem
        assert booked(ledger) == [("charge", "o-1"), ("refund", "o-1")]

    run(test)


def test_a_cancelled_order_is_refunded(ledger: Path) -> None:
    async def test(environment: testing.Environment, client: Client) -> None:
        order = await client.start("o-1", Order.process, "potato")
        await environment.settle()
        await order.cancel("changed my mind")
        with pytest.raises(Exception, match=r"changed my mind|cancel"):
            await order.result()
        assert (
            await status(client, "o-1")
        ).problem == "Your order was cancelled. Your payment has been refunded."
        assert booked(ledger) == [("charge", "o-1"), ("refund", "o-1")]

    run(test)


@pytest.mark.parametrize(
    ("product", "problem"),
    [
        ("swordfish", "Your card was declined: insufficient funds. You have not been charged."),
        ("shark", "There is no 'shark' on the menu: choose one of swordfish, burrata, potato, poke."),
    ],
)
def test_what_is_never_charged_is_never_refunded(ledger: Path, product: str, problem: str) -> None:
    async def test(environment: testing.Environment, client: Client) -> None:
        order = await client.start("o-1", Order.process, product)
        with pytest.raises(WorkflowFailed):
            await order.result()
        found = await status(client, "o-1")
        assert (found.state, found.problem) == (State.FAILED, problem)
        assert booked(ledger) == []

    run(test)


@pytest.mark.parametrize(
    ("luck", "is_done", "outcome"),
    [(0.0, False, "nobody answered"), (0.34, False, "nobody answered"), (0.36, True, "answer lost"),
        (0.69, True, "answer lost"),
     (0.71, True, "done")],
)  # fmt: skip
def test_half_of_the_failures_lose_the_question_and_half_the_answer(
    ledger: Path, monkeypatch: pytest.MonkeyPatch, luck: float, is_done: bool, outcome: str
) -> None:
    lucks = [luck, *[0.99] * 20]
    monkeypatch.setattr(attempts, "FAILURE_RATE", 0.7)
    monkeypatch.setattr("food_delivery.attempts.random.random", lambda: lucks.pop(0))

    async def test(environment: testing.Environment, client: Client) -> None:
        order = await client.start("o-1", Order.process, "burrata")
        await environment.sleep("5s")
        assert (await status(client, "o-1")).state is State.PAID
        first = attempts.feed._latest[0]
        assert (first.what, first.outcome, first.number) == ("Charge $20.00", outcome, 1)
        entries = [json.loads(line) for line in ledger.read_text().splitlines()]
        assert len(entries) == is_done + (outcome != "done")
        assert len({each["key"] for each in entries}) == 1, "an attempt that is made again has the same key"
        await order.cancel()

    run(test)


def test_a_watcher_of_attempts_gets_the_latest_and_then_each_once() -> None:
    def entry(number: int) -> Any:
        return attempts.Attempt("o-1", "Charge", False, "key", number, "done")

    async def main() -> None:
        feed = Feed()
        feed.publish(entry(1))
        feed.publish(entry(2))
        watch: Any = feed.watch()
        assert [(await anext(watch)).number for _ in range(2)] == [1, 2]
        await asyncio.to_thread(feed.publish, entry(3))
        assert (await asyncio.wait_for(anext(watch), 20)).number == 3
        await watch.aclose()
        assert not feed._watchers

    asyncio.run(main())


def test_the_board_has_the_open_orders_newest_first_and_says_why_it_cannot_be_read(ledger: Path) -> None:
    async def test(environment: testing.Environment, client: Client) -> None:
        for number in range(3):
            await client.start(f"o-{number}", Order.process, "burrata")
            await environment.sleep("1s")
        await client.start("declined", Order.process, "swordfish")
        await environment.settle()
        found = await read(client)
        assert [(row.id, row.status.state) for row in found.orders] == [
            (f"o-{number}", State.PAID) for number in (2, 1, 0)
        ]
        assert found.problem is None

    run(test)

    class Broken:
        async def list(self, **_: object) -> None:
            raise EngineUnavailable("nobody answers")

    assert asyncio.run(read(Broken())) == Board([], "nobody answers")  # type: ignore[arg-type]


def test_drivers_share_one_reader_and_get_only_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "PERIOD_S", 0.0)
    boards = [Board([], f"{number // 3}") for number in range(9)]
    asked = 0

    async def fake(_: Client) -> Board:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return boards[min(asked, len(boards)) - 1]

    monkeypatch.setattr(board, "read", fake)

    async def main() -> None:
        watch = Watch(None)  # type: ignore[arg-type]
        first: Any = watch.boards()
        assert [(await anext(first)).problem for _ in range(2)] == ["0", "1"]
        second: Any = watch.boards()
        assert (await anext(second)).problem == "1", "who comes later sees the board at once"
        assert [(await anext(each)).problem for each in (first, second)] == ["2", "2"]
        reader = watch._reader
        assert reader is not None
        for each in (first, second):
            await each.aclose()
        await asyncio.wait_for(reader, 20)
        assert watch._latest is None, "nobody looks, so nothing is read"

    asyncio.run(main())


def test_the_page_gets_what_it_asked_for_and_an_order_that_is_sent_again_starts_nothing(ledger: Path) -> None:
    async def test(environment: testing.Environment, client: Client) -> None:
        web.web.state.client = client
        transport = httpx.ASGITransport(web.web)
        order = {"id": "0b5c1c7e-7c3e-4a63-9c6e-0e3f5c1f8f11", "product": "potato"}
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as http:
            answers = [await http.post("/orders", json=order) for _ in range(2)]
            assert [(each.status_code, each.json()["message"]) for each in answers] == [
                (201, RECEIVED["message"]), (409, "already submitted"),
            ]  # fmt: skip
            await environment.settle()
            path = f"/orders/{order['id']}"
            assert (await http.get(path)).json()["state"] == "Paid"
            assert [each["id"] for each in (await http.get("/orders")).json()["orders"]] == [order["id"]]
            for step, state in (("picked-up", "Picked up"), ("delivered", "Delivered")):
                assert (await http.post(f"{path}/{step}")).status_code == 202
                await environment.settle()
                assert (await http.get(path)).json()["state"] == state
            assert (await http.get("/orders/nobody")).status_code == 404
            for nowhere in ("/order", "/pages/none.css"):
                hint = await http.get(nowhere)
                assert hint.status_code == 404
                assert hint.json()["message"].startswith(
                    f"There is nothing at {nowhere}: / is the menu, /driver "
                )
            page = await http.get("/order", headers={"Accept": "text/html"})
            assert (page.status_code, "There is nothing here" in page.text) == (404, True)
            assert (await http.post("/orders", json={"id": "x", "product": "potato"})).status_code == 400
            assert {each["id"] for each in (await http.get("/menu")).json()["products"]} >= {"poke", "potato"}
        assert booked(ledger) == [("charge", order["id"])]

    run(test)
