"""A shopping cart: each change answers with the subtotal, and a cart that is forgotten writes."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from perdure import workflow
from perdure.errors import Failure
from shopping_cart.activities import pay, send_mail

# Read here, once, at import: workflow code must not read the environment, which may change.
DAY: Final = timedelta(seconds=float(os.environ.get("CART_DAY_S", "86400")))
IDLE: Final = DAY
FORGOTTEN: Final = 30 * DAY


@dataclass(frozen=True)
class Item:
    sku: str
    cents: int


@dataclass
class Contents:
    items: list[Item] = field(default_factory=list[Item])
    email: str = ""
    is_paid: bool = False

    @property
    def subtotal_cents(self) -> int:
        return sum(item.cents for item in self.items)


@workflow.defn
class Cart:
    def __init__(self) -> None:
        self.id = workflow.info().workflow_id
        self.contents = Contents()
        self.changes = 0
        self.is_checking_out = False

    @workflow.run
    async def shop(self) -> Contents:
        """Until the cart is paid, or was left alone for a month."""
        while not self.contents.is_paid:
            if await self.changes_within(IDLE):
                continue
            if self.contents.items and self.contents.email:
                await send_mail(self.id, self.contents.email, "Your cart is waiting for you.")
            if not await self.changes_within(FORGOTTEN):
                break
        await workflow.wait_until(workflow.all_handlers_finished)
        return self.contents

    async def changes_within(self, time: timedelta) -> bool:
        before = self.changes
        return bool(await workflow.wait_until(lambda: self.changes != before, timeout=time))

    @workflow.update
    def add(self, item: Item, count: int = 1) -> int:
        """Put something into the cart; the subtotal, in cents."""
        self.contents.items += [item] * count
        return self.changed()

    @workflow.update
    def remove(self, sku: str) -> int:
        """Take all of a kind out of the cart; the subtotal, in cents."""
        self.contents.items = [item for item in self.contents.items if item.sku != sku]
        return self.changed()

    @workflow.update
    def set_email(self, address: str) -> None:
        self.contents.email = address
        self.changed()

    @workflow.update
    async def check_out(self) -> int:
        """Pay; what was paid, in cents. A card that is declined leaves the cart as it was."""
        self.is_checking_out = True
        self.changed()
        try:
            await pay(self.id, self.contents.subtotal_cents)
            self.contents.is_paid = True
        except Failure:
            self.is_checking_out = False
            raise
        finally:
            self.changed()
        return self.contents.subtotal_cents

    def changed(self) -> int:
        self.changes += 1
        return self.contents.subtotal_cents

    def refuse_after_checkout(self) -> None:
        if self.is_checking_out:
            raise ValueError("the cart is checked out")

    @add.validator
    def _may_add(self, item: Item, count: int = 1) -> None:
        self.refuse_after_checkout()
        if not 1 <= count <= 100:
            raise ValueError("add 1 to 100 at a time")

    @remove.validator
    def _may_remove(self, sku: str) -> None:
        self.refuse_after_checkout()
        if all(item.sku != sku for item in self.contents.items):
            raise ValueError(f"there is no {sku} in the cart")

    @set_email.validator
    def _is_address(self, address: str) -> None:
        self.refuse_after_checkout()
        if "@" not in address:
            raise ValueError(f"{address!r} is no e-mail address")

    @check_out.validator
    def _may_check_out(self) -> None:
        self.refuse_after_checkout()
        if not self.contents.items:
            raise ValueError("the cart is empty")

    @workflow.view
    def status(self) -> Contents:
        return self.contents
