"""The whole life of an order, as one class: it begins with a record of the shop's, and ends with one of ours, or with all of it undone."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

from ecommerce_order.activities import CardDeclined, OutOfStock, charge, refund, release, reserve, ship
from ecommerce_order.orders import ORDERS, SHIPPED, Line, OrderShipped, PlacedOrder
from perdure import workflow
from perdure.errors import Failure


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
        self.tracking: str | None = None
        self.shipped_at: datetime | None = None
        self.problem: str | None = None

    @workflow.trigger(ORDERS, PlacedOrder, id=lambda placed: placed.order_id)
    @workflow.run
    async def process(self, placed: PlacedOrder) -> str:
        try:
            self.tracking = await self.fulfil(placed)
        except Failure as failure:
            self.state, self.problem = State.FAILED, str(failure)
            raise
        self.state, self.shipped_at = State.SHIPPED, workflow.now()
        shipped = OrderShipped(placed.order_id, self.tracking, placed.total_cents)
        await workflow.produce(SHIPPED, shipped, key=placed.order_id)
        return self.tracking

    async def fulfil(self, placed: PlacedOrder) -> str:
        """All three or nothing. What undoes a step is registered before the step, because its answer may be lost."""
        async with workflow.saga() as saga:
            try:
                saga.compensate(self.undo, release)
                await reserve(placed.order_id, placed.lines)
                self.state = State.CHARGING
                saga.compensate(self.undo, refund)
                await charge.options(idempotency_key=placed.payment_key)(placed.order_id, placed.total_cents)
                self.state = State.SHIPPING
                return await ship(placed.order_id, placed.country)
            except Failure as failure:
                self.problem = str(failure)
                raise

    @workflow.view
    def status(self) -> OrderStatus:
        placed = self.placed
        return OrderStatus(
            placed.customer, self.state, placed.total_cents, placed.lines, self.tracking, self.shipped_at, self.problem
        )
