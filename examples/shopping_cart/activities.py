"""What reaches the world outside: a payment service, and e-mail."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from perdure import activity
from perdure.errors import Failure

LEDGER: Final = os.environ.get("CART_LEDGER", "")


@dataclass(eq=False)
class CardDeclined(Failure):
    reason: str

    def __str__(self) -> str:
        return f"The card was declined: {self.reason}."


@activity.defn(timeout="1 min")
async def pay(cart: str, cents: int) -> None:
    if cents > 1000_00:
        raise CardDeclined("insufficient funds")
    note("pay", cart, cents=cents)


@activity.defn(timeout="1 min")
async def send_mail(cart: str, address: str, text: str) -> None:
    note("mail", cart, address=address, text=text)


def note(what: str, cart: str, **facts: Any) -> None:
    """Tests count what was done, by its key."""
    if LEDGER:
        entry = {"what": what, "of": cart, "key": activity.idempotency_key(), **facts}
        with Path(LEDGER).open("a") as ledger:
            ledger.write(json.dumps(entry) + "\n")
