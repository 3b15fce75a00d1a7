"""A subscription: ten years in a moment, prices that change, and an end at any time."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from subscription import activities
from subscription.activities import CardDeclined
from subscription.workflows import PERIOD, TRIAL, Account, NextCharge, Subscription

from perdure import testing
from perdure.errors import UpdateRejected, WorkflowFailed

YEARS = 10


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The charges, in cents, and the first word of each e-mail."""
    found: list[str] = []

    def note(what: str, customer: str, **facts: Any) -> None:
        found.append(str(facts["cents"]) if what == "charge" else facts["text"].split()[0].strip("!"))

    monkeypatch.setattr(activities, "note", note)
    return found


def test_ten_years_pass_with_a_history_that_stays_small(done: list[str]) -> None:
    async def scenario() -> None:
        async with testing.Environment() as env:
            handle = await env.client.start("ada", Subscription.live, Account("ada", 9_00))
            lengths: list[int] = []
            for _ in range(YEARS):
                await env.sleep("365 days")
                lengths.append((await env.client.describe("ada")).history_length)
            periods = (timedelta(days=365 * YEARS) - TRIAL) // PERIOD + 1
            assert done == ["Welcome", *["900"] * periods]
            assert max(lengths) < 80
            await env.restart()
            await handle.signal(Subscription.cancel)
            assert await handle.result() == periods
            assert done[-1] == "Your"

    asyncio.run(scenario())


def test_a_subscription_cancelled_in_the_trial_costs_nothing(done: list[str]) -> None:
    async def scenario() -> None:
        async with testing.Environment() as env:
            handle = await env.client.start("ada", Subscription.live, Account("ada", 9_00))
            await env.sleep(TRIAL - timedelta(seconds=1))
            await handle.signal(Subscription.cancel)
            assert await handle.result() == 0
            assert done == ["Welcome", "Your"]

    asyncio.run(scenario())


def test_what_is_charged_next_and_when_follows_the_price(done: list[str]) -> None:
    async def scenario() -> None:
        async with testing.Environment() as env:
            first = env.now() + TRIAL
            handle = await env.client.start("ada", Subscription.live, Account("ada", 9_00))
            assert await handle.query(Subscription.next_charge) == NextCharge(9_00, first)
            assert await handle.update(Subscription.change_price, 12_00) == NextCharge(12_00, first)
            for unfair in (0, -1, 24_01):
                with pytest.raises(UpdateRejected, match="a price is positive, and at most twice"):
                    await handle.update(Subscription.change_price, unfair)
            await env.sleep(TRIAL + PERIOD * 13)
            assert done == ["Welcome", *["1200"] * 14]
            assert await handle.query(Subscription.next_charge) == NextCharge(12_00, first + PERIOD * 14)

    asyncio.run(scenario())


def test_a_card_that_is_declined_ends_the_subscription(done: list[str]) -> None:
    async def scenario() -> None:
        async with testing.Environment() as env:
            handle = await env.client.start("bob", Subscription.live, Account("broke", 9_00))
            with pytest.raises(WorkflowFailed) as failed:
                await handle.result()
            assert isinstance(failed.value.cause, CardDeclined)
            assert done == ["Welcome", "The"]

    asyncio.run(scenario())
