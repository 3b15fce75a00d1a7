"""What reaches the world outside: a card company, and e-mail."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from perdure import activity
from perdure.errors import Failure

LEDGER: Final = os.environ.get("SUBSCRIPTION_LEDGER", "")


@dataclass(eq=False)
class CardDeclined(Failure):
    reason: str

    def __str__(self) -> str:
        return f"The card was declined: {self.reason}."


@activity.defn(timeout="1 min")
async def charge(customer: str, cents: int) -> None:
    if customer == "broke":
        raise CardDeclined("insufficient funds")
    note("charge", customer, cents=cents)


@activity.defn(timeout="1 min")
async def send_mail(customer: str, text: str) -> None:
    note("mail", customer, text=text)


def note(what: str, customer: str, **facts: Any) -> None:
    """Tests count what was done, by its key."""
    if LEDGER:
        entry = {"what": what, "of": customer, "key": activity.idempotency_key(), **facts}
        with Path(LEDGER).open("a") as ledger:
            ledger.write(json.dumps(entry) + "\n")
