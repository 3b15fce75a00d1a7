"""Everything that the processes of the platform need."""

from __future__ import annotations

from shopping_cart.activities import pay, send_mail
from shopping_cart.workflows import Cart

__all__ = ["Cart", "pay", "send_mail"]
