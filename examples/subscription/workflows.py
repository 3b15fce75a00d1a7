"""A subscription: a free trial, then a charge every thirty days, until somebody cancels it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from perdure import workflow
from subscription.activities import CardDeclined, charge, send_mail

# Read here, once, at import: workflow code must not read the environment, which may change.
DAY: Final = timedelta(seconds=float(os.environ.get("SUBSCRIPTION_DAY_S", "86400")))
TRIAL: Final = 14 * DAY
PERIOD: Final = 30 * DAY
PERIODS_A_RUN: Final = 12
"""Then the workflow continues as new, and its history is empty again."""


@dataclass
class Account:
    """All that a run passes to the next one.

    Attributes:
        next_charge_at: None before the trial.
        charged: how many periods are paid.
    """

    customer: str
    cents: int
    next_charge_at: datetime | None = None
    charged: int = 0


@dataclass
class NextCharge:
    cents: int
    at: datetime


@workflow.defn
class Subscription:
    def __init__(self, account: Account) -> None:
        self.account = account
        self.due = account.next_charge_at or workflow.now() + TRIAL
        self.is_cancelled = False

    @workflow.run
    async def live(self, account: Account) -> int:
        """The number of periods that were paid."""
        if account.next_charge_at is None:
            await send_mail(account.customer, f"Welcome! You pay nothing until {self.due:%d %B %Y}.")
        while not await workflow.wait_until(lambda: self.is_cancelled, timeout=self.due - workflow.now()):
            try:
                await charge(account.customer, account.cents)
            except CardDeclined as declined:
                await send_mail(account.customer, f"{declined} Your subscription has ended.")
                raise
            account.charged += 1
            self.due += PERIOD  # from the date that was due: a late charge does not move the next one
            if account.charged % PERIODS_A_RUN == 0:
                account.next_charge_at = self.due
                workflow.continue_as_new(self.live, account)
        await send_mail(account.customer, "Your subscription has ended. Farewell!")
        return account.charged

    @workflow.signal
    def cancel(self) -> None:
        self.is_cancelled = True

    @workflow.update
    def change_price(self, cents: int) -> NextCharge:
        """Change what the next charges are; the next one."""
        self.account.cents = cents
        return self.next_charge()

    @change_price.validator
    def _is_fair(self, cents: int) -> None:
        if not 0 < cents <= 2 * self.account.cents:
            raise ValueError("a price is positive, and at most twice the one before")

    @workflow.query
    def next_charge(self) -> NextCharge:
        return NextCharge(self.account.cents, self.due)
