"""The whole life of an order, as one class: from the charge to "rate your meal", or to the
refund."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

from food_delivery.activities import CardDeclined, charge, push, refund
from food_delivery.catalogue import WAIT, find
from perdure import workflow
from perdure.errors import Failure


class State(enum.Enum):
    CHARGING = "Charging card"
    PAID = "Paid"
    PICKED_UP = "Picked up"
    DELIVERED = "Delivered"
    REFUNDING = "Refunding"
    FAILED = "Failed"


@dataclass
class OrderStatus:
    product: str
    state: State
    delivered_at: datetime | None
    problem: str | None


@workflow.defn
class Order:
    def __init__(self, product_id: str) -> None:
        self.id = workflow.info().workflow_id
        self.product_id = product_id
        self.state = State.CHARGING
        self.delivered_at: datetime | None = None
        self.problem: str | None = None

    @workflow.run
    async def process(self, product_id: str) -> None:
        try:
            product = find(product_id)
            async with workflow.saga() as saga:
                # registered before the charge, because its answer may be lost
                saga.compensate(self.give_back)
                await self.pay(product.cents)
                await self.wait_for(State.PICKED_UP, "No driver picked your order up in time.")
                await push(self.id, f"Your {product.name.lower()} was picked up and is on its way.")
                await self.wait_for(State.DELIVERED, "Your order was not delivered in time.")
        except Failure as failure:
            self.state, self.problem = State.FAILED, self.problem or str(failure)
            raise
        await push(self.id, f"Your {product.name.lower()} was delivered. Enjoy!")
        await workflow.sleep(WAIT)
        await push(self.id, f"Rate your meal. How was the {product.name.lower()}?")

    async def pay(self, cents: int) -> None:
        try:
            await charge(self.id, cents)
        except CardDeclined as declined:
            self.state, self.problem = State.FAILED, f"{declined} You have not been charged."
            await push(self.id, self.problem)
            raise
        self.state = State.PAID

    async def wait_for(self, state: State, problem: str) -> None:
        if not await workflow.wait_until(lambda: self.state is state, timeout=WAIT):
            self.problem = problem
            raise Failure(problem)

    async def give_back(self) -> None:
        if self.state is State.FAILED:  # declined: nothing was charged
            return
        self.state = State.REFUNDING
        await refund(self.id)
        self.state, self.problem = (
            State.FAILED,
            f"{self.problem or 'Your order was cancelled.'} Your payment has been refunded.",
        )
        await push(self.id, self.problem)

    @workflow.signal
    def picked_up(self) -> None:
        if self.state is State.PAID:
            self.state = State.PICKED_UP

    @workflow.signal
    def delivered(self) -> None:
        if self.state is State.PICKED_UP:
            self.state, self.delivered_at = State.DELIVERED, workflow.now()

    @workflow.view
    def status(self) -> OrderStatus:
        return OrderStatus(self.product_id, self.state, self.delivered_at, self.problem)
