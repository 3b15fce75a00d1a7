"""Everything that the processes of the platform need."""

from __future__ import annotations

from one_click_buy.activities import charge, refund, release, reserve, ship
from one_click_buy.workflows import Purchase

__all__ = ["Purchase", "charge", "refund", "release", "reserve", "ship"]
