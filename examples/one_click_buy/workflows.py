"""A purchase: reserve, wait half an hour for second thoughts, charge, ship."""

from __future__ import annotations

import asyncio
import enum
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from one_click_buy.activities import Item, charge, refund, release, reserve, ship
from perdure import workflow

# Read here, once, at import: workflow code must not read the environment, which may change.
WINDOW: Final = timedelta(seconds=float(os.environ.get("BUY_WINDOW_S", "1800")))


class State(enum.Enum):
    RESERVING = "reserving"
    OPEN = "open"  # for changes, until `closes_at`
    PAYING = "paying"
    SHIPPED = "shipped"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass
class PurchaseStatus:
    customer: str
    state: State
    items: list[Item]
    total_cents: int
    closes_at: datetime | None
    tracking: str | None


@workflow.defn
class Purchase:
    def __init__(self, customer: str, item: Item) -> None:
        self.id = workflow.info().workflow_id
        self.customer = customer
        self.state = State.RESERVING
        self.items: list[Item] = []
        self.closes_at: datetime | None = None
        self.tracking: str | None = None

    @property
    def total_cents(self) -> int:
        return sum(item.cents for item in self.items)

    @workflow.run
    async def buy(self, customer: str, item: Item) -> str:
        try:
            self.tracking = await self.fulfil(item)
        except asyncio.CancelledError:
            self.state = State.CANCELLED
            raise
        except Exception:
            self.state = State.FAILED
            raise
        self.state = State.SHIPPED
        return self.tracking

    async def fulfil(self, item: Item) -> str:
        # What undoes a step is registered before it: it may be done although its answer is lost.
        async with workflow.saga() as saga:
            saga.compensate(release, self.id)
            await self.put(item)
            await self.wait_for_second_thoughts()
            saga.compensate(refund, self.id)
            await charge(self.id, self.customer, self.total_cents)
            return await ship(self.id, self.customer, self.items)

    async def wait_for_second_thoughts(self) -> None:
        """Cancelling the purchase ends this wait with `CancelledError`."""
        self.state, self.closes_at = State.OPEN, workflow.now() + WINDOW
        await workflow.sleep(WINDOW)
        self.state = State.PAYING
        await workflow.wait_until(workflow.all_handlers_finished)  # an item may still be on its way

    async def put(self, item: Item) -> None:
        await reserve(self.id, item)
        self.items.append(item)

    @workflow.update
    async def add(self, item: Item) -> int:
        """Add an item while the window is open; the new total, in cents."""
        await self.put(item)
        return self.total_cents

    @add.validator
    def _is_open(self, item: Item) -> None:
        if self.state is not State.OPEN:
            raise ValueError(f"the purchase is {self.state.value}: it can no longer be changed")

    @workflow.view
    def status(self) -> PurchaseStatus:
        return PurchaseStatus(
            self.customer, self.state, self.items, self.total_cents, self.closes_at, self.tracking
        )
