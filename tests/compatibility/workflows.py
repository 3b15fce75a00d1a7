"""The workflows whose runs a release leaves behind for the next ones.

`make.py` copies this file into the data of a release, and the copy never changes: it stands for
code that somebody runs in production. This file may change; the next release records its own copy.

COMPATIBILITY_CODE says which code is deployed:
- `before`: what begins the runs;
- `changed`: the same, but for `Changed`, which does something else: its runs are suspended;
- `repaired` (the default): `Changed` is as it was, a worker knows `label`, and services answer.

COMPATIBILITY_BOOK is the file in which activities write what they did, with the idempotency key.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from uuid import UUID

from perdure import activity, workflow
from perdure.errors import Failure

CODE = os.environ.get("COMPATIBILITY_CODE", "repaired")
SHIPPED = "compatibility.shipped"


def do(what: str) -> None:
    """Something that must happen once."""
    info = activity.info()
    with Path(os.environ["COMPATIBILITY_BOOK"]).open("a") as book:
        book.write(f"{what} {info.workflow_id} {activity.idempotency_key()}\n")


class State(Enum):
    CHARGING = "charging"
    PAID = "paid"
    PICKED_UP = "picked up"
    DELIVERED = "delivered"


@dataclass(eq=False)
class CardDeclined(Failure):
    reason: str


@dataclass
class Receipt:
    order_id: str
    price: Decimal
    at: datetime


@dataclass
class Parcel:
    """A payload of many types."""

    id: UUID
    state: State
    due: date
    lifetime: timedelta
    weights: list[float]
    content: dict[str, tuple[int, str | None]]
    seal: bytes
    receipt: Receipt | None = None
    text: str = "größer → ‰ 🍕"


@activity.defn(timeout="1m", retry=activity.Retry(give_up_after="100 days"))
async def charge(order_id: str, cents: int) -> Receipt:
    if cents == 3500:
        raise CardDeclined("the card has no 35 dollars")
    do("charge")
    return Receipt(order_id, Decimal(cents) / 100, datetime(2026, 1, 31, 12, 30, tzinfo=UTC))


@activity.defn
def refund(order_id: str) -> None:
    do("refund")


@activity.defn(timeout="1 hour")
async def call_driver(name: str) -> str:
    """No driver answers until the code is repaired: the attempt continues, and is leased."""
    if CODE != "repaired":
        await asyncio.Event().wait()
    do("call")
    return f"{name} is on the way"


@activity.defn(timeout="1 hour", queue="warehouse")
async def pack(what: str) -> str:
    if CODE != "repaired":
        await asyncio.Event().wait()
    do("pack")
    return f"{what} is packed"


PATIENT = activity.Retry(first_interval="10ms", coefficient=1_000_000.0, maximum_interval="3 hours")


@activity.defn(retry=PATIENT)
async def post(what: str) -> str:
    """Two attempts fail within a moment; the third is made hours later."""
    if CODE != "repaired":
        raise ConnectionError(f"nobody takes {what}")
    do("post")
    return f"{what} is posted, attempt {activity.info().attempt}"


if CODE == "repaired":

    @activity.defn(name="label")
    async def print_label(what: str) -> str:
        """Nothing is counted here: the task may come twice, by its timer and to a worker that
        starts."""
        return f"{what} is labelled"


label = activity.named("label", returns=str)


@activity.step
async def weigh(what: str) -> int:
    return len(what)


@workflow.defn
class Order:
    """A charge, a wait with a time limit, a sleep, a record, and a compensation."""

    def __init__(self) -> None:
        self.state = State.CHARGING

    @workflow.run
    async def process(self, product: str, cents: int) -> Receipt:
        order_id = workflow.info().workflow_id
        async with workflow.saga() as saga:
            saga.compensate(refund, order_id)
            receipt = await charge(order_id, cents)
            if self.state is State.CHARGING:
                self.state = State.PAID
            if not await workflow.wait_until(lambda: self.state is State.PICKED_UP, timeout="30 days"):
                raise Failure("no driver accepted the order")
        await workflow.sleep("1 hour")
        self.state = State.DELIVERED
        shipped = {"order": order_id, "product": product}
        await workflow.produce(SHIPPED, shipped, key=order_id, headers={"shop": "north"})
        return receipt

    @workflow.signal
    def picked_up(self) -> None:
        self.state = State.PICKED_UP

    @workflow.view
    def status(self) -> State:
        return self.state

    @workflow.query
    def is_paid(self) -> bool:
        return self.state is not State.CHARGING


@workflow.defn
async def remind(text: str, after: str) -> str:
    """A function as a workflow: one timer."""
    await workflow.sleep(after)
    return text


@workflow.defn
class Errand:
    """One activity, whatever state it is in."""

    @workflow.run
    async def run(self, what: str) -> str:
        match what:
            case "call_driver":
                return await call_driver("a driver")
            case "pack":
                return await pack("a pizza")
            case "post":
                return await post("a letter")
            case _:
                return await label("a box")


@workflow.defn
class Chores:
    """Steps, a handler that waits, and concurrent calls."""

    def __init__(self) -> None:
        self.weights: list[int] = []
        self.is_over = False

    @workflow.run
    async def run(self, things: list[str]) -> list[int]:
        async with asyncio.TaskGroup() as group:
            for thing in things:
                group.create_task(self.weigh(thing))
        await workflow.wait_until(lambda: self.is_over)
        return self.weights

    async def weigh(self, thing: str) -> None:
        self.weights.append(await weigh(thing))
        self.weights.sort()

    @workflow.signal
    async def add(self, thing: str) -> None:
        await workflow.sleep("1 day")
        await self.weigh(thing)

    @workflow.signal
    def end(self) -> None:
        self.is_over = True

    @workflow.view
    def so_far(self) -> list[int]:
        return self.weights


@workflow.defn
class Careful:
    """Asked to stop, it waits for a permission."""

    def __init__(self) -> None:
        self.may_stop = False

    @workflow.run
    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await workflow.wait_until(lambda: self.may_stop)

    @workflow.signal
    def stop(self) -> None:
        self.may_stop = True


@workflow.defn
class Changed:
    """Its code changes under its runs."""

    def __init__(self) -> None:
        self.is_over = False

    @workflow.run
    async def run(self) -> str:
        weight = 0
        if CODE == "changed":
            await workflow.sleep("1 minute")
        else:
            weight = await weigh("a box")
        await workflow.wait_until(lambda: self.is_over)
        return f"{weight} pounds"

    @workflow.signal
    def end(self) -> None:
        self.is_over = True


@workflow.defn
class Dice:
    """Its random numbers must be the same after a replay."""

    def __init__(self) -> None:
        self.drawn: list[str] = []
        self.is_over = False

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.sleep("10ms")
        self.drawn = [str(workflow.uuid4()), repr(workflow.random().random()), workflow.now().isoformat()]
        await workflow.wait_until(lambda: self.is_over)
        return self.drawn

    @workflow.signal
    def end(self) -> None:
        self.is_over = True

    @workflow.view
    def shown(self) -> list[str]:
        return self.drawn


@workflow.defn
class Seller:
    """Says what it sells, then waits."""

    def __init__(self) -> None:
        self.is_over = False

    @workflow.run
    async def run(self, product: str) -> str:
        key = workflow.info().workflow_id
        await workflow.produce(SHIPPED, [product], key=key, cloudevent="compatibility.sold")
        await workflow.wait_until(lambda: self.is_over)
        return f"{product} is sold"

    @workflow.signal
    def end(self) -> None:
        self.is_over = True


@workflow.defn
class Storage:
    """Keeps a parcel, and gives it back."""

    def __init__(self, parcel: Parcel) -> None:
        self.parcel = parcel
        self.is_over = False

    @workflow.run
    async def keep(self, parcel: Parcel) -> Parcel:
        await workflow.wait_until(lambda: self.is_over)
        return self.parcel

    @workflow.signal
    def fetch(self, receipt: Receipt) -> None:
        self.parcel.receipt = receipt
        self.is_over = True

    @workflow.view
    def content(self) -> Parcel:
        return self.parcel
