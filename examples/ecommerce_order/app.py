"""Everything that the processes of the platform need: the workflow with its trigger, and the
activities."""

from __future__ import annotations

from ecommerce_order.activities import charge, refund, release, reserve, ship
from ecommerce_order.workflows import Order

__all__ = ["Order", "charge", "refund", "release", "reserve", "ship"]
