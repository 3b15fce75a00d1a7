"""What travels: the record that the shop writes when an order is placed, and ours when it is on its
way."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

_PREFIX: Final = os.environ.get("SHOP_TOPICS", "shop")

ORDERS: Final = f"{_PREFIX}.orders"
"""The shop's topic. It knows nothing of us."""
SHIPPED: Final = f"{_PREFIX}.shipped"
"""Ours, for any reader."""


@dataclass(frozen=True)
class Line:
    sku: str
    quantity: int
    cents: int


@dataclass(frozen=True)
class PlacedOrder:
    order_id: str
    customer: str
    country: str
    payment_key: str  # made by the shop with the order: the card is charged once for it, whatever happens
    lines: list[Line]

    @property
    def total_cents(self) -> int:
        return sum(line.quantity * line.cents for line in self.lines)


@dataclass(frozen=True)
class OrderShipped:
    order_id: str
    tracking: str
    total_cents: int
