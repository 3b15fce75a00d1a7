"""The food delivery under kill -9: it continues where it was, what was due meanwhile happens
immediately, and nobody pays twice."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from tests.e2e.conftest import Kitchen

NOBODY = 1.0  # every attempt fails, half of them after the thing was done
EVERYBODY = 0.0


def order(kitchen: Kitchen, product: str = "poke") -> str:
    order_id = str(uuid4())
    assert kitchen.order(order_id, product) == (201, {"message": "Order received and persisted!"})
    return order_id


def until_asked(kitchen: Kitchen, what: str, orders: list[str]) -> str:
    """An order for which the card company did it, and nobody knows: the answer was lost."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for order_id in orders:
            if order_id in kitchen.ledger(what):
                return order_id
        time.sleep(0.02)
    raise AssertionError(f"no {what} has arrived")


def test_killed_while_charging_the_charge_is_asked_for_again_under_the_same_key(kitchen: Kitchen) -> None:
    kitchen.start(failure_rate=NOBODY)
    orders = [order(kitchen) for _ in range(5)]
    charged = until_asked(kitchen, "charge", orders)
    kitchen.kill()
    before = len(kitchen.ledger("charge")[charged])

    kitchen.start(failure_rate=EVERYBODY)
    for order_id in orders:
        kitchen.until_state(order_id, "Paid")
    charges = kitchen.ledger("charge")
    assert set(charges) == set(orders)
    assert len(charges[charged]) > before, "the lost answer was not asked for again"
    assert all(len(set(keys)) == 1 for keys in charges.values()), charges
    assert len({keys[0] for keys in charges.values()}) == len(orders), "two orders share a key"


def test_killed_while_refunding_the_refund_is_asked_for_again_under_the_same_key(kitchen: Kitchen) -> None:
    kitchen.start(wait="2s", failure_rate=EVERYBODY)
    orders = [order(kitchen) for _ in range(5)]
    for order_id in orders:
        kitchen.until_state(order_id, "Paid")
    kitchen.kill()

    kitchen.start(wait="2s", failure_rate=NOBODY)
    for order_id in orders:
        assert (
            kitchen.until_state(order_id, "Refunding")["problem"] == "No driver picked your order up in time."
        )
    refunded = until_asked(kitchen, "refund", orders)
    kitchen.kill()
    before = len(kitchen.ledger("refund")[refunded])

    kitchen.start(wait="2s", failure_rate=EVERYBODY)
    for order_id in orders:
        status = kitchen.until_state(order_id, "Failed")
        assert status["problem"] == "No driver picked your order up in time. Your payment has been refunded."
        kitchen.until_ended(order_id)
    refunds = kitchen.ledger("refund")
    assert set(refunds) == set(orders)
    assert len(refunds[refunded]) > before, "the lost answer was not asked for again"
    assert all(len(set(keys)) == 1 for keys in refunds.values()), refunds
    assert all(len(set(keys)) == 1 for keys in kitchen.ledger("charge").values()), (
        "a refund does not charge again"
    )


def test_timers_due_during_a_stop_fire_immediately_afterwards(kitchen: Kitchen) -> None:
    wait_s = 12
    kitchen.start(wait=f"{wait_s}s")
    waiting, moving, eaten = (order(kitchen) for _ in range(3))
    for order_id in (waiting, moving, eaten):
        kitchen.until_state(order_id, "Paid")
    for order_id in (moving, eaten):
        assert kitchen.ask(f"/orders/{order_id}/picked-up", {})[0] == 202
    assert kitchen.ask(f"/orders/{eaten}/delivered", {})[0] == 202
    delivered = kitchen.until_state(eaten, "Delivered")
    assert kitchen.status(moving)["state"] == "Picked up"
    for order_id in (moving, eaten):  # the customer gets a message first, which may take a while
        kitchen.until_waiting(order_id)
    kitchen.kill()
    time.sleep(wait_s + 0.5)  # the time that has to pass is what is tested

    kitchen.start(wait="1 hour")  # what a timer that began again would take
    assert "No driver" in kitchen.until_state(waiting, "Failed")["problem"]
    assert "not delivered in time" in kitchen.until_state(moving, "Failed")["problem"]
    kitchen.until_ended(eaten)
    assert kitchen.status(eaten) == delivered, "the end of an order does not change what its customer reads"
    assert set(kitchen.ledger("refund")) == {waiting, moving}


def test_an_order_survives_a_kill_in_the_middle(kitchen: Kitchen) -> None:
    kitchen.start()
    order_id = order(kitchen, "burrata")
    kitchen.until_state(order_id, "Paid")
    for what, state in (("picked-up", "Picked up"), ("delivered", "Delivered")):
        kitchen.kill()
        kitchen.start()
        assert kitchen.ask(f"/orders/{order_id}/{what}", {})[0] == 202
        kitchen.until_state(order_id, state)
    kitchen.kill()
    kitchen.start()
    status = kitchen.status(order_id)
    assert (status["product"], status["state"], status["problem"]) == ("burrata", "Delivered", None)
    assert status["delivered_at"]
    assert kitchen.order(order_id, "burrata") == (409, {"message": "already submitted"})
    assert [len(keys) for keys in kitchen.ledger("charge").values()] == [1]
    assert kitchen.ledger("refund") == {}
