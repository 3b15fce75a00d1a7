"""Everything that the processes of the platform need."""

from __future__ import annotations

from subscription.activities import charge, send_mail
from subscription.workflows import Subscription

__all__ = ["Subscription", "charge", "send_mail"]
