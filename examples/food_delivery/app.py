"""Everything that `perdure dev` needs: the workflows, the activities, and a web app to serve beside
them."""

from __future__ import annotations

from food_delivery.activities import charge, push, refund
from food_delivery.web import web
from food_delivery.workflows import Order

__all__ = ["Order", "charge", "push", "refund", "web"]
