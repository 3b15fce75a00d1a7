"""The food delivery as people see it: two pages in a real browser, and a server started as a user
starts it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.conftest import Kitchen

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
expect.set_options(timeout=20_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, kitchen: Kitchen) -> Iterator[Callable[[str], Page]]:
    """Open a page of the kitchen, all in one person's browser; what its scripts complain about
    fails the test."""
    context, complaints = browser.new_context(), list[str]()

    def open_page(path: str) -> Page:
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(kitchen.url + path)
        return page

    yield open_page
    context.close()
    assert complaints == []


def place(menu: Page, product: str) -> Locator:
    """Click Order; the card of the new order, which is the first."""
    dish = menu.locator(f".dish[data-product={product}]")
    dish.get_by_role("button").click()
    expect(dish.locator(".said")).to_have_text("Order received and persisted!")
    newest = menu.locator(".order").first.get_attribute("data-id")
    return menu.locator(f'.order[data-id="{newest}"]')


def row(driver: Page, order: Locator) -> Locator:
    return driver.locator(f'tr[data-id="{order.get_attribute("data-id")}"]')


def chip(of: Locator) -> Locator:
    return of.locator(".chip")


def test_an_order_is_paid_picked_up_and_delivered_on_both_pages_live(
    kitchen: Kitchen, visit: Callable[[str], Page]
) -> None:
    kitchen.start()
    driver, menu = visit("/driver"), visit("/")
    expect(driver.locator('[data-note="empty"]')).to_contain_text("No open orders")
    expect(menu.locator(".dish h3")).to_have_text(["Swordfish", "Burrata", "Potato", "Poke"])
    expect(menu.locator(".dish .price")).to_have_text(["$35", "$20", "$15", "$20"])
    expect(menu.locator("#no-orders")).to_be_visible()

    order = place(menu, "poke")
    theirs = row(driver, order)
    expect(chip(order)).to_have_text("Paid")
    expect(chip(theirs)).to_have_text("Paid")
    expect(driver.locator('[data-note="empty"]')).to_have_count(0)
    expect(driver.locator("#count")).to_have_text("1 open order")
    theirs.get_by_role("button", name="Pick up").click()
    expect(chip(order)).to_have_text("Picked up")
    expect(order.locator(".messages")).to_contain_text("picked up")
    theirs.get_by_role("button", name="Deliver").click()
    expect(chip(order)).to_have_text("Delivered")
    expect(chip(theirs)).to_have_text("Delivered")
    expect(chip(theirs)).to_have_attribute("data-tone", "green")
    expect(driver.locator("#count")).to_have_text("")  # it is on the board, and no longer open
    expect(order.locator(".hint")).to_contain_text("Delivered at")
    expect(order.locator(".messages")).to_contain_text("Enjoy!")

    menu.locator(".order").get_by_role("button", name="Buy again").click()
    expect(menu.locator(".order")).to_have_count(2)
    expect(driver.locator("#rows tr")).to_have_count(2)
    menu.reload()
    expect(menu.locator(".order .chip")).to_have_text(["Paid", "Delivered"])  # this browser's history
    assert len(kitchen.ledger("charge")) == 2


def test_a_declined_card_is_shown_clearly_and_permanently(
    kitchen: Kitchen, visit: Callable[[str], Page]
) -> None:
    kitchen.start()
    menu = visit("/")
    order = place(menu, "swordfish")
    expect(chip(order)).to_have_text("Failed")
    expect(order.locator(".problem")).to_have_text(
        "Your card was declined: insufficient funds. You have not been charged."
    )
    assert kitchen.ledger("charge") == {}

    order_id = order.get_attribute("data-id") or ""
    kitchen.until_ended(order_id)
    kitchen.stop()
    assert "Traceback" not in kitchen.output(), "Ctrl-C while a page is open is not an error"
    kitchen.start()
    menu.reload()
    expect(chip(order)).to_have_text("Failed")
    expect(order.locator(".problem")).to_contain_text("insufficient funds")
    assert kitchen.order(order_id, "swordfish") == (409, {"message": "already submitted"}), (
        "an order that has ended is not started again"
    )


def test_what_is_not_on_the_menu_fails_clearly(kitchen: Kitchen, visit: Callable[[str], Page]) -> None:
    kitchen.start()
    order_id = str(uuid4())
    assert kitchen.order(order_id, "pizza")[0] == 201
    said = "There is no 'pizza' on the menu: choose one of swordfish, burrata, potato, poke."
    assert kitchen.until_state(order_id, "Failed")["problem"] == said
    menu = visit("/")
    menu.evaluate(
        """id => localStorage.setItem(
            "perdure-kitchen-orders",
            JSON.stringify([{id, product: "pizza", at: Date.now(), sent: true}])
        )""",
        order_id,
    )
    menu.reload()
    expect(menu.locator(".order .problem")).to_have_text(said)
    assert kitchen.ask("/orders", {"id": "not a uuid", "product": "poke"})[0] == 400
    assert kitchen.ask(f"/orders/{uuid4()}")[0] == 404


def test_clicks_out_of_order_are_ignored(kitchen: Kitchen, visit: Callable[[str], Page]) -> None:
    kitchen.start()
    driver, menu = visit("/driver"), visit("/")
    order = place(menu, "potato")
    theirs, toast = row(driver, order), driver.locator("#toast")
    expect(chip(theirs)).to_have_text("Paid")
    theirs.get_by_role("button", name="Deliver").click()
    expect(toast).to_have_text("Ignored: that counts only while the order is “Picked up”.")
    theirs.get_by_role("button", name="Pick up").click()
    expect(chip(theirs)).to_have_text(
        "Picked up"
    )  # signals are handled in order: had the early one counted, it would be delivered
    theirs.get_by_role("button", name="Pick up").click()
    expect(toast).to_have_text("Ignored: that counts only while the order is “Paid”.")

    order_id = order.get_attribute("data-id") or ""
    assert kitchen.status(order_id)["delivered_at"] is None
    assert kitchen.ask(f"/orders/{order_id}/picked-up", {})[0] == 202
    assert kitchen.ask(f"/orders/{order_id}/delivered", {})[0] == 202
    delivered = kitchen.until_state(order_id, "Delivered")
    for what in ("delivered", "picked-up"):
        assert kitchen.ask(f"/orders/{order_id}/{what}", {})[0] == 202
    assert kitchen.status(order_id) == delivered, "the second delivery stamped the time again"


def test_a_driver_cannot_hurry_the_card_company(kitchen: Kitchen, visit: Callable[[str], Page]) -> None:
    kitchen.start(failure_rate=1.0)
    menu, driver = visit("/"), visit("/driver")
    order = place(menu, "poke")
    theirs = row(driver, order)
    expect(chip(theirs)).to_have_text("Charging card")
    theirs.get_by_role("button", name="Pick up").click()
    expect(driver.locator("#toast")).to_contain_text("Ignored")
    assert kitchen.ask(f"/orders/{order.get_attribute('data-id')}/delivered", {})[0] == 202
    expect(order.locator(".hood .count")).to_contain_text("2 attempts, 2 failed")
    expect(chip(order)).to_have_text("Charging card")


def test_orders_not_picked_up_or_not_delivered_are_refunded(
    kitchen: Kitchen, visit: Callable[[str], Page]
) -> None:
    kitchen.start(wait="3s")
    driver, menu = visit("/driver"), visit("/")
    lost = place(menu, "burrata")
    theirs = row(driver, lost)
    expect(chip(theirs)).to_have_text("Paid")  # before, a pick-up does not count
    theirs.get_by_role("button", name="Pick up").click()
    expect(chip(lost)).to_have_text("Picked up")
    left = place(menu, "poke")
    expect(chip(lost)).to_have_text("Failed")
    expect(lost.locator(".problem")).to_have_text(
        "Your order was not delivered in time. Your payment has been refunded."
    )
    expect(chip(left)).to_have_text("Failed")
    expect(left.locator(".problem")).to_have_text(
        "No driver picked your order up in time. Your payment has been refunded."
    )
    expect(driver.locator('[data-note="empty"]')).to_be_visible()
    assert set(kitchen.ledger("refund")) == {order.get_attribute("data-id") for order in (lost, left)}

    menu.reload()  # ended long ago, and still to be read
    expect(menu.locator(".order .chip")).to_have_text(["Failed", "Failed"])


def test_after_the_meal_they_ask_how_it_was_and_the_status_stays(
    kitchen: Kitchen, visit: Callable[[str], Page]
) -> None:
    kitchen.start(wait="3s")
    menu = visit("/")
    order = place(menu, "potato")
    order_id = order.get_attribute("data-id") or ""
    expect(chip(order)).to_have_text("Paid")
    kitchen.ask(f"/orders/{order_id}/picked-up", {})
    kitchen.ask(f"/orders/{order_id}/delivered", {})
    expect(order.locator(".messages")).to_contain_text("Rate your meal. How was the potato?")
    kitchen.until_ended(order_id)
    kitchen.kill()
    kitchen.start(wait="3s")
    expect(menu.locator("#link")).to_have_text("Live")
    menu.reload()
    expect(chip(order)).to_have_text("Delivered")
    assert kitchen.status(order_id)["delivered_at"]


def test_with_seventy_percent_failing_every_attempt_is_seen_under_one_key(
    kitchen: Kitchen, visit: Callable[[str], Page]
) -> None:
    kitchen.start(failure_rate=0.7)
    menu, driver = visit("/"), visit("/driver")
    orders = [place(menu, "poke") for _ in range(8)]
    expect(menu.locator('.order[data-tone="blue"]')).not_to_have_count(0)
    expect(menu.locator(".order", has=menu.locator(".dots li:nth-child(2)"))).not_to_have_count(0)
    order_id = menu.locator(".order", has=menu.locator(".dots li:nth-child(2)")).first.get_attribute(
        "data-id"
    )
    retried = menu.locator(f'.order[data-id="{order_id}"]')
    retried.locator("summary").click()
    expect(retried.locator(".calls code").first).to_be_visible()
    expect(retried.locator(".calls li", has_text="Charge $20.00")).to_have_count(1)  # lines are made by key
    driver.locator('tr[data-state="Paid"]').first.get_by_role("button", name="Pick up").click()
    expect(menu.locator('.order[data-tone="violet"]')).to_have_count(1)
    driver.locator('tr[data-state="Picked up"]').get_by_role("button", name="Deliver").click()
    expect(menu.locator('.order[data-tone="green"]')).to_have_count(1)
    charges = kitchen.ledger("charge")
    assert set(charges) <= {order.get_attribute("data-id") for order in orders}
    assert all(len(set(keys)) == 1 for keys in charges.values()), charges


def test_an_answer_that_was_lost_is_asked_for_again_and_the_order_was_already_submitted(
    kitchen: Kitchen, visit: Callable[[str], Page]
) -> None:
    kitchen.start()
    menu = visit("/")

    def lose_the_answer(route: Route) -> None:
        assert route.fetch().status == 201
        route.abort()

    dish = menu.locator(".dish[data-product=potato]")
    menu.route("**/orders", lose_the_answer, times=1)
    dish.get_by_role("button").click()
    expect(dish.locator(".said")).to_contain_text("The server does not answer.")
    expect(menu.locator(".order .chip")).to_have_text("Paid")  # the stream knows better
    dish.get_by_role("button", name="Try again").click()
    expect(dish.locator(".said")).to_have_text("already submitted")
    expect(menu.locator(".order .chip")).to_have_text("Paid")
    assert [len(keys) for keys in kitchen.ledger("charge").values()] == [1]


def test_the_button_spins_until_the_order_is_persisted(
    kitchen: Kitchen, visit: Callable[[str], Page]
) -> None:
    kitchen.start()
    menu = visit("/")
    held: list[Route] = []
    menu.route("**/orders", lambda route: held.append(route), times=1)
    button = menu.locator(".dish[data-product=poke]").get_by_role("button")
    button.click()
    expect(button).to_have_attribute("aria-busy", "true")
    expect(button.locator(".spinner")).to_be_visible()
    button.click()  # an impatient second click is not a second order
    held[0].continue_()
    expect(button.locator(".spinner")).to_be_hidden()
    expect(button).to_have_text("Buy again")
    expect(menu.locator(".order")).to_have_count(1)


def test_two_windows_share_one_history_and_the_board_ends_after_thirty(
    kitchen: Kitchen, visit: Callable[[str], Page]
) -> None:
    kitchen.start()
    first, second = visit("/"), visit("/")
    expect(second.locator("#link")).to_have_text("Live")
    order = place(first, "poke")
    expect(chip(second.locator(f'.order[data-id="{order.get_attribute("data-id")}"]'))).to_have_text("Paid")
    place(second, "potato")
    expect(first.locator(".order h3")).to_have_text(["Potato", "Poke"])
    driver = visit("/driver")
    for _ in range(30):
        assert kitchen.order(str(uuid4()), "burrata")[0] == 201
    expect(driver.locator("#rows strong")).to_have_text(["Burrata"] * 30)  # the newest


def test_both_pages_show_a_dead_server_and_continue_when_it_is_back(
    kitchen: Kitchen, visit: Callable[[str], Page]
) -> None:
    kitchen.start()
    driver, menu = visit("/driver"), visit("/")
    order = place(menu, "poke")
    expect(chip(row(driver, order))).to_have_text("Paid")
    kitchen.kill()
    expect(driver.locator('[data-note="error"]')).to_contain_text("The orders cannot be read")
    expect(driver.locator("#link")).to_have_text("Reconnecting")
    expect(menu.locator("#link")).to_have_text("Reconnecting")
    menu.locator(".dish[data-product=potato]").get_by_role("button").click()
    expect(chip(menu.locator(".order").first)).to_have_text("No answer")
    kitchen.start()
    expect(chip(menu.locator(".order").first)).to_have_text("Not received")
    menu.locator(".order").first.get_by_role("button", name="Send again").click()
    expect(chip(menu.locator(".order").first)).to_have_text("Paid")
    expect(menu.locator(".order")).to_have_count(2)
    expect(driver.locator('[data-note="error"]')).to_have_count(0)
    expect(driver.locator("#link")).to_have_text("Live")
    row(driver, order).get_by_role("button", name="Pick up").click()
    expect(chip(order)).to_have_text("Picked up")


def test_the_driver_sees_that_orders_are_loading(kitchen: Kitchen, visit: Callable[[str], Page]) -> None:
    kitchen.start()
    driver = visit("/driver")
    driver.route("**/board/watch", lambda _: None)
    driver.reload()
    expect(driver.locator('[data-note="loading"]')).to_contain_text("Loading the orders")
    driver.unroute_all(behavior="ignoreErrors")
