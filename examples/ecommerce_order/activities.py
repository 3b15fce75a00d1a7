"""What reaches the world outside. A `Failure` is an answer and final; anything else is tried again,
half a second later, then one, two, …"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

from ecommerce_order.orders import Line
from ecommerce_order.world import asked
from perdure import activity
from perdure.errors import Failure


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


@dataclass(eq=False)
class CannotShip(Failure):
    country: str

    def __str__(self) -> str:
        return f"No carrier goes to {self.country}."


patient = activity.Retry(first_interval="0.5s", coefficient=2.0, maximum_interval="10s")


@activity.defn(timeout="10s", retry=patient)
async def reserve(order_id: str, lines: list[Line]) -> None:
    with asked("warehouse", "reserve", order_id):
        for line in lines:
            if line.sku == "unicorn":
                raise OutOfStock(line.sku)


@activity.defn(timeout="10s", retry=patient)
async def release(order_id: str) -> None:
    with asked("warehouse", "release", order_id):
        pass


@activity.defn(timeout="10s", retry=patient)
async def charge(order_id: str, cents: int) -> None:
    with asked("card company", "charge", order_id):
        if cents > 1000_00:
            raise CardDeclined("insufficient funds")


@activity.defn(timeout="10s", retry=patient)
async def refund(order_id: str) -> None:
    with asked("card company", "refund", order_id):
        pass


@activity.defn(timeout="10s", retry=patient)
async def ship(order_id: str, country: str) -> str:
    """The tracking number: the same for the same key."""
    with asked("carrier", "ship", order_id):
        if country == "Atlantis":
            raise CannotShip(country)
    return f"P{crc32(activity.idempotency_key().encode()):010}"
