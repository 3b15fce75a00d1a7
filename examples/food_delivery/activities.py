"""What reaches the world outside: a card company and a telephone. Neither is reliable, and neither
may act twice."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from food_delivery.attempts import attempt
from perdure import activity
from perdure.errors import Failure


@dataclass(eq=False)
class CardDeclined(Failure):
    reason: str

    def __str__(self) -> str:
        return f"Your card was declined: {self.reason}."


stubborn = activity.Retry(maximum_interval="5s")


@activity.defn(timeout="1 minute", retry=stubborn)
async def charge(order_id: str, cents: int) -> None:
    with attempt(order_id, f"Charge ${cents / 100:.2f}"):
        if cents >= 3500:
            raise CardDeclined("insufficient funds")  # a Failure is final: no retry would help
        card_company("charge", order_id)


@activity.defn(timeout="1 minute", retry=stubborn)
async def refund(order_id: str) -> None:
    with attempt(order_id, "Refund the payment"):
        card_company("refund", order_id)


@activity.defn(timeout="1 minute", retry=stubborn)
async def push(order_id: str, message: str) -> None:
    with attempt(order_id, message, is_message=True):
        pass  # the attempt is the message: the customer's page shows those that got through


def card_company(what: str, order_id: str) -> None:
    """Book it. A real one takes the key and books the same key once; this one writes every request
    down, so that it can be counted."""
    if ledger := os.environ.get("FOOD_LEDGER"):
        entry = {"what": what, "order": order_id, "key": activity.idempotency_key(), "at": time.time()}
        with Path(ledger).open("a") as book:
            book.write(json.dumps(entry) + "\n")
