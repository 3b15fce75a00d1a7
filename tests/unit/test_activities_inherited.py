"""Activities that a subclass inherits, overrides and adds."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pytest

from perdure import activity, testing, workflow
from perdure.activity import Retry
from perdure.errors import Failure, UsageError, WorkflowFailed
from perdure.registry import Registry

T = TypeVar("T")
ONCE = Retry(maximum_attempts=1)


@dataclass
class Card:
    number: str


class Bank(Generic[T]):
    """Is not provided: an abstract base."""

    def __init__(self, name: str) -> None:
        self.name = name

    @activity.defn(retry=ONCE)
    async def charge(self, by: T, cents: int) -> str:
        return f"{self.name} took {cents} of {by}"

    @activity.defn(retry=ONCE)
    def refund(self, cents: int) -> str:
        return f"{self.name} gave {cents}"

    @activity.step(retry=ONCE)
    async def rate(self) -> str:
        return f"rate of {self.name}"


BASE: Any = Bank


class Stripe(Bank[Card]):
    @activity.defn(retry=ONCE)
    def refund(self, cents: int) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return f"{super().refund.fn(cents)} at once"

    @activity.defn(retry=ONCE)
    async def dispute(self) -> str:
        return f"{self.name} disputes"


class Paypal(Bank[str]): ...


class Mailer:
    @activity.defn(name="send-mail", retry=ONCE)
    async def send(self, to: str) -> str:
        return f"{type(self).__name__} to {to}"


class Postmark(Mailer): ...


@workflow.defn
class Pays:
    @workflow.run
    async def process(self) -> list[str]:
        return [
            await Stripe.charge(Card("42"), 5),
            await Stripe.refund(5),
            await Stripe.dispute(),
            await Stripe.rate(),
            await BASE.refund(2),
            await BASE.rate(),
            await Mailer.send("Ada"),
            await Postmark.send("Bob"),
        ]


@workflow.defn
async def asks_the_base() -> str:
    return str(await BASE.refund(2))


@workflow.defn
async def of_each() -> list[str]:
    return [await Stripe.charge(Card("1"), 1), await Paypal.charge("ada@x", 2)]


def provider_of(cls: type[Any], *args: Any) -> Any:
    async def yields() -> AsyncIterator[Any]:
        yield cls(*args)

    yields.__annotations__["return"] = AsyncIterator[cls]  # type: ignore[valid-type]
    activity.provide(yields)
    return activity.PROVIDERS.pop()


STRIPE = provider_of(Stripe, "stripe")
PAYPAL = provider_of(Paypal, "paypal")
POSTMARK = provider_of(Postmark)
OWN: list[Any] = [BASE.charge, BASE.refund, BASE.rate, Stripe.refund, Stripe.dispute, Mailer.send]


def execute(run: Any, *providers: Any) -> Any:
    async def scenario() -> Any:
        registry = Registry.of([Pays, asks_the_base, of_each], OWN, providers)
        async with testing.Environment(registry) as env:
            return await env.client.execute("w", run)

    return asyncio.run(scenario())


def test_a_subclass_inherits_overrides_and_adds() -> None:
    assert execute(Pays.process, STRIPE, POSTMARK) == [
        "stripe took 5 of Card(number='42')",
        "stripe gave 5 at once",
        "stripe disputes",
        "rate of stripe",
        "stripe gave 2 at once",
        "rate of stripe",
        "Postmark to Ada",
        "Postmark to Bob",
    ]


def test_each_subclass_has_its_own_names_and_types() -> None:
    assert (Stripe.charge.name, Paypal.charge.name) == ("Stripe.charge", "Paypal.charge")
    assert (Postmark.send.name, Stripe.charge) == ("send-mail", Stripe.charge)
    assert execute(of_each, STRIPE, PAYPAL) == ["stripe took 1 of Card(number='1')", "paypal took 2 of ada@x"]


def test_the_base_class_of_several_is_not_guessed() -> None:
    with pytest.raises(WorkflowFailed) as failed:
        execute(asks_the_base, STRIPE, PAYPAL)
    assert isinstance(failed.value.cause, Failure)
    assert "base class of Stripe and Paypal: call it on the one that you mean" in str(failed.value.cause)


def test_an_inherited_activity_is_called_on_an_instance_outside_workflows() -> None:
    assert asyncio.run(Stripe("s").charge(Card("1"), 2)) == "s took 2 of Card(number='1')"
    assert Stripe("s").charge.name == "Stripe.charge"


def test_an_inherited_activity_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(Stripe.charge)) is Stripe.charge
    assert pickle.loads(pickle.dumps(Stripe.refund)) is Stripe.refund


def test_a_fake_of_the_base_class_is_one_of_what_serves_it() -> None:
    with testing.fake(Bank.refund, lambda cents: f"fake {cents}"):
        assert execute(asks_the_base, STRIPE) == "fake 2"
    assert execute(asks_the_base, STRIPE) == "stripe gave 2 at once"
    with testing.fake(Bank.refund, lambda cents: f"again {cents}"):
        assert execute(asks_the_base, STRIPE) == "again 2"
    assert execute(asks_the_base, STRIPE) == "stripe gave 2 at once"


class Bare(Bank[Card]):
    async def charge(self, by: Card, cents: int) -> str:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        return ""


class Sendgrid(Mailer): ...


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Registry.of([], OWN, [provider_of(Bare, "b")]),
            r"test_activities_inherited\.py:\d+: Bare\.charge replaces the activity 'Bank\.charge'",
        ),
        (
            lambda: Registry.of([], OWN, [POSTMARK, provider_of(Sendgrid)]),
            r"two activities have the name 'send-mail': .*Postmark\.send .* and .*Sendgrid\.send",
        ),
        (
            lambda: Registry.of([], OWN, [POSTMARK, provider_of(Mailer)]),
            r"two activities have the name 'send-mail': .*Mailer\.send .* and .*Postmark\.send",
        ),
    ],
)
def test_what_cannot_be_unique_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
