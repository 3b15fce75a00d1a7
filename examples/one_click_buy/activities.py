"""What reaches the world outside: a warehouse, a card company and a carrier.

Each is asked under `activity.idempotency_key()`, which is the same for all attempts, so that it
does a thing once. A `Failure` is an answer and final; anything else is tried again.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from perdure import activity
from perdure.errors import Failure

LEDGER: Final = os.environ.get("BUY_LEDGER", "")


@dataclass(frozen=True)
class Item:
    sku: str
    cents: int


@dataclass(eq=False)
class OutOfStock(Failure):
    sku: str

    def __str__(self) -> str:
        return f"There is no {self.sku} left."


@dataclass(eq=False)
class CardDeclined(Failure):
    reason: str

    def __str__(self) -> str:
        return f"The card was declined: {self.reason}."


@activity.defn(timeout="10s")
async def reserve(purchase: str, item: Item) -> None:
    if item.sku == "unicorn":
        raise OutOfStock(item.sku)
    note("reserve", purchase, item=asdict(item))


@activity.defn(timeout="10s")
async def release(purchase: str) -> None:
    """Give back everything that is reserved for the purchase; nothing may be."""
    note("release", purchase)


@activity.defn(timeout="10s")
async def charge(purchase: str, customer: str, cents: int) -> None:
    if cents > 1000_00:
        raise CardDeclined("insufficient funds")
    note("charge", purchase, customer=customer, cents=cents)


@activity.defn(timeout="10s")
async def refund(purchase: str) -> None:
    """Give the money back, if the card was charged for the purchase."""
    note("refund", purchase)


@activity.defn(timeout="10s")
async def ship(purchase: str, customer: str, items: list[Item]) -> str:
    """The tracking number: the same for the same key."""
    note("ship", purchase, customer=customer, skus=[item.sku for item in items])
    return f"P{crc32(activity.idempotency_key().encode()):010}"


def note(what: str, purchase: str, **facts: Any) -> None:
    """Tests count what was done, by its key."""
    if LEDGER:
        entry = {"what": what, "of": purchase, "key": activity.idempotency_key(), **facts}
        with Path(LEDGER).open("a") as ledger:
            ledger.write(json.dumps(entry) + "\n")
