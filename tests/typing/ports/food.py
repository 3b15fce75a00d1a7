"""A food delivery: signals that come out of order, a view, compensations, failures of the author's own, inheritance."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

from perdure import activity, workflow
from perdure.client import Client
from perdure.errors import Failure, WorkflowAlreadyStarted


class State(enum.Enum):
    CHARGING = "Charging card"
    PAID = "Paid"
    PICKED_UP = "Picked up"
    DELIVERED = "Delivered"
    REFUNDING = "Refunding"


@dataclass
class Product:
    name: str
    cents: int


PRODUCTS = {"burrata": Product("Burrata", 2000), "swordfish": Product("Swordfish", 3500)}


@dataclass(eq=False)
class CardDeclined(Failure):
    reason: str


patient = activity.Retry(maximum_interval="5s", never=(PermissionError,))
impatient = activity.Retry(maximum_interval=5)  # BAD


@activity.defn(timeout="1m", retry=patient)
async def charge(order_id: str, cents: int) -> str:
    if cents >= 3500:
        raise CardDeclined("insufficient funds")
    if not order_id:
        raise activity.RetryAfter("30s", "no order yet")
    return activity.idempotency_key()


@activity.defn(timeout="1m", retry=patient)
def refund(receipt: str) -> None: ...


@activity.defn(timeout="1m", retry=patient)
async def push(message: str) -> None: ...


@dataclass
class OrderStatus:
    product: str
    state: State
    delivered_at: datetime | None


@workflow.defn
class Order:
    def __init__(self, product_id: str) -> None:
        if product_id not in PRODUCTS:
            raise Failure(f"Product {product_id} not found")
        self.product = PRODUCTS[product_id]
        self.state: State = State.CHARGING
        self.delivered_at: datetime | None = None

    @workflow.run
    async def process(self, product_id: str) -> None:
        order_id = workflow.info().workflow_id
        try:
            receipt = await charge(order_id, self.product.cents)
        except CardDeclined as declined:
            await push(f"Failed to charge: {declined.reason}")
            raise
        async with workflow.saga() as saga:
            saga.compensate(self.give_up, receipt)
            saga.compensate(refund, 3)  # BAD
            saga.compensate(refund, receipt, "x")  # BAD
            self.state = State.PAID
            if not await workflow.wait_until(lambda: self.state is State.PICKED_UP, timeout="1m"):
                raise Failure("Not picked up in time")
            await push("picked up")
            if not await workflow.wait_until(lambda: self.delivered_at, timeout="1m"):
                raise Failure("Not delivered in time")
        await push("delivered")
        await workflow.sleep("1 minute")
        await push(f"Rate your meal. How was the {self.product.name.lower()}?")

    async def give_up(self, receipt: str) -> None:
        self.state = State.REFUNDING
        await refund(receipt)
        await push("Your payment has been refunded")

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
        return OrderStatus(self.product.name, self.state, self.delivered_at)

    @workflow.view  # BAD
    def wrong_view(self, x: int) -> int:
        return x

    @workflow.run  # BAD
    def wrong_run(self) -> int:
        return 3


async def create(client: Client, order_id: str, product: str) -> str:
    try:
        await client.start(order_id, Order.process, product)
    except WorkflowAlreadyStarted:
        return "already submitted"
    return "Order received and persisted!"


async def drive(client: Client, order_id: str) -> OrderStatus:
    order = client.get(order_id, Order.process)
    await order.signal(Order.picked_up)
    await order.signal(Order.picked_up, "x")  # BAD
    async for status in order.watch(Order.status):
        if status.state is State.DELIVERED:
            break
        if status.stat:  # BAD
            break
    wrong: str = await order.view(Order.status)  # BAD
    await order.view(Order.picked_up)  # BAD
    print(wrong)
    return await order.view(Order.status)


async def charging_is_just_a_function() -> None:
    assert await charge("o-1", 2000) == "x"


@workflow.defn
class Express(Order):
    @workflow.signal
    def picked_up(self) -> None:
        super().picked_up()


@workflow.defn
class Cart:
    def __init__(self, customer: str) -> None:
        self.items: list[str] = []

    @workflow.run
    async def main(self, customer: str) -> int:
        return len(self.items)

    @workflow.signal
    def add(self, item: str) -> None:
        self.items.append(item)


@dataclass
class Added:
    cart_id: str
    item: str


@workflow.defn
class Basket:
    @workflow.trigger("shop.carts", str, id=lambda customer: customer, format="json")
    @workflow.run
    async def main(self, customer: str) -> int:
        return len(customer)

    @workflow.trigger("shop.added", Added, id=lambda added: added.cart_id, when=lambda added: bool(added.item), start=False)
    @workflow.signal
    def add(self, added: Added) -> None: ...

    @workflow.trigger("shop.removed", Added, id=lambda removed: removed.cart_id)  # BAD
    @workflow.signal
    def remove(self, item: str) -> None: ...

    @workflow.trigger("shop.cleared", Added, id=lambda cleared: cleared.cart_id)  # BAD
    @workflow.signal
    def clear(self, cleared: Added, really: bool) -> None: ...


@workflow.trigger("shop.carts", str, id=lambda customer: customer)
@workflow.defn
async def greet(customer: str) -> str:
    return customer


@workflow.trigger("shop.carts", Added, id=lambda added: added.cart_id)  # BAD
@workflow.defn
async def count(customer: str) -> str:
    return customer


misnamed = workflow.trigger("shop.carts", Added, id=lambda added: added.id)  # BAD
unkeyed = workflow.trigger("shop.carts", Added)  # BAD
numbered = workflow.trigger("shop.carts", Added, id=lambda added: 7)  # BAD
conditional = workflow.trigger("shop.carts", Added, id=lambda added: added.item, when="always")  # BAD
unknown = workflow.trigger("shop.carts", Added, id=lambda added: added.item, format="xml")  # BAD


async def together(client: Client) -> None:
    basket = client.with_start("c-1", Basket.main, "someone")
    await basket.signal(Basket.add, Added("c-1", "burrata"))
    await basket.signal(Basket.add, "burrata")  # BAD
    client.with_start("c-1", Basket.main, 7)  # BAD
    client.with_start("c-1", Basket.add, Added("c-1", "burrata"))  # BAD
    length: str = await basket.result()  # BAD
    print(length)


async def express(client: Client) -> None:
    handle = await client.start("e-1", Express.process, "burrata")
    await handle.signal(Express.picked_up)
    await handle.signal(Express.delivered)
    cart = await client.start("c-1", Cart.main, "someone")
    await cart.signal(Order.picked_up)  # BAD
    await (await client.start("o-2", Order.process, "burrata")).signal(Express.picked_up)  # BAD pyright
