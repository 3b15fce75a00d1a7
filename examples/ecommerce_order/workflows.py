"""The whole life of an order, as one class: it begins with a record of the shop's, and ends with
one of ours, or with all of it undone."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from ecommerce_order.activities import charge, refund, release, reserve, ship
from ecommerce_order.orders import ORDERS, SHIPPED, Line, OrderShipped, PlacedOrder
from perdure import workflow
from perdure.activity import Activity
from perdure.errors import Failure

T = TypeVar("T")


class State(enum.Enum):
    RESERVING = "reserving"
    CHARGING = "charging"
    SHIPPING = "shipping"
    SHIPPED = "shipped"
    UNDOING = "undoing"
    FAILED = "failed"


@dataclass
class OrderStatus:
    """Where an order is.

    Attributes:
        customer: who has placed it.
        state: where it is.
        total_cents: of all lines.
        lines: what was ordered.
        tracking: the carrier's number.
        shipped_at: when the carrier took it.
        problem: why it has failed, for the customer.
    """

    customer: str
    state: State
    total_cents: int
    lines: list[Line]
    tracking: str | None
    shipped_at: datetime | None
    problem: str | None


@workflow.defn
class Order:
    def __init__(self, placed: PlacedOrder) -> None:
        self.placed = placed
        self.state = State.RESERVING
        self.refused: State | None = None
        self.tracking: str | None = None
        self.shipped_at: datetime | None = None
        self.problem: str | None = None

    @workflow.trigger(ORDERS, PlacedOrder, id=lambda placed: placed.order_id)
    @workflow.run
    async def process(self, placed: PlacedOrder) -> str:
        try:
            self.tracking = await self.fulfil(placed)
        except (Failure, asyncio.CancelledError):
            self.state, self.problem = State.FAILED, self.problem or "The order was cancelled."
            raise
        self.state, self.shipped_at = State.SHIPPED, workflow.now()
        shipped = OrderShipped(placed.order_id, self.tracking, placed.total_cents)
        await workflow.produce(SHIPPED, shipped, key=placed.order_id)
        return self.tracking

    async def fulfil(self, placed: PlacedOrder) -> str:
        """All three steps, or none. What undoes one is registered before it: it may have been done
        although its answer was lost."""
        async with workflow.saga() as saga:
            saga.compensate(self.undo, State.RESERVING, release)
            await self.step(State.RESERVING, reserve(placed.order_id, placed.lines))
            saga.compensate(self.undo, State.CHARGING, refund)
            charged = charge.options(idempotency_key=placed.payment_key)
            await self.step(State.CHARGING, charged(placed.order_id, placed.total_cents))
            return await self.step(State.SHIPPING, ship(placed.order_id, placed.country))

    async def step(self, state: State, answer: Awaitable[T]) -> T:
        self.state = state
        try:
            return await answer
        except Failure as refusal:
            self.refused, self.problem = state, str(refusal)
            raise

    async def undo(self, step: State, by: Activity[[str], None]) -> None:
        if step is self.refused:  # a refusal is an answer: nothing was done
            return
        self.state = State.UNDOING
        await by(self.placed.order_id)

    @workflow.view
    def status(self) -> OrderStatus:
        placed = self.placed
        return OrderStatus(
            placed.customer,
            self.state,
            placed.total_cents,
            placed.lines,
            self.tracking,
            self.shipped_at,
            self.problem,
        )
