"""Workflows that a shop's records start and signal."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from perdure import workflow


@dataclass
class Order:
    order_id: str
    cents: int


def workflows_of(prefix: str) -> list[Any]:
    """Bound to the topics of this shop."""

    @workflow.defn
    class Sale:
        def __init__(self) -> None:
            self.paid: list[Any] = []

        @workflow.trigger(f"{prefix}.orders", Order, id=lambda order: order.order_id)
        @workflow.run
        async def run(self, order: Order) -> int:
            await workflow.wait_until(lambda: self.paid)
            return order.cents

        @workflow.trigger(f"{prefix}.payments", dict[str, Any], id=lambda payment: str(payment["order_id"]))
        @workflow.signal
        def pay(self, payment: dict[str, Any]) -> None:
            self.paid.append(payment)

    return [Sale]


if "SHOP" in os.environ:
    workflows_of(os.environ["SHOP"])
