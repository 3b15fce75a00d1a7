"""User code, run on the whole platform in memory: values, failures, retries, methods, fakes,
sagas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, cast

import pytest

from perdure import activity, testing, workflow
from perdure.errors import (
    ActivityFailed,
    ActivityTimedOut,
    Cancelled,
    Failure,
    PayloadError,
    QueryFailed,
    RemoteException,
    UsageError,
    WorkflowFailed,
)
from perdure.registry import Registry


@dataclass
class Price:
    amount: Decimal
    valid_for: timedelta = timedelta(days=1)


@dataclass(eq=False)
class Declined(Failure):
    reason: str
    price: Price


@activity.defn
async def charge(order: str, price: Price, *, note: str = "none") -> Price:
    if price.amount > 100:
        raise Declined(f"too much for {order}", price)
    return Price(price.amount * 2, price.valid_for)


seen: list[tuple[str, int, tuple[Any, ...]]] = []


@activity.defn(retry=activity.Retry(maximum_attempts=5))
def flaky(times: int) -> str:
    facts = activity.info()
    seen.append((facts.idempotency_key, facts.attempt, activity.last_heartbeat()))
    activity.heartbeat("at", facts.attempt)
    if facts.attempt <= times:
        raise activity.RetryAfter("1 day", "not yet")
    return activity.idempotency_key()


class NotHere(Exception):
    """No Failure."""


class NotHereEither(NotHere): ...


@activity.defn(retry=activity.Retry(maximum_attempts=3))
async def broken() -> None:
    raise NotHere("gone")


@activity.defn(retry=activity.Retry(never=(NotHere,)))
async def final() -> None:
    raise NotHereEither("gone")


@activity.defn(timeout="20ms", retry=activity.Retry(maximum_attempts=1))
async def endless() -> None:
    await asyncio.Event().wait()


@activity.defn
async def lies() -> int:
    result: Any = "three"
    return result  # type: ignore[no-any-return]


@activity.step
def double(number: int) -> int:
    return number * 2


class Ledger:
    def __init__(self, name: str) -> None:
        self.entries: list[str] = [name]

    @activity.defn
    async def enter(self, text: str) -> list[str]:
        self.entries.append(text)
        return self.entries


@activity.provide
async def ledger() -> AsyncIterator[Ledger]:
    yield Ledger("opened")


PROVIDER = activity.PROVIDERS[-1]
double_by_name = activity.named("double", returns=int)


@workflow.defn
class Buy:
    def __init__(self, order: str, price: Price, *, gift: bool = False) -> None:
        self.paid: Price | None = None
        self.texts: list[str] = [f"{order} {gift}"]

    @workflow.run
    async def main(self, order: str, price: Price, *, gift: bool = False) -> Price:
        self.paid = await charge(order, price, note="gift" if gift else "own")
        await workflow.wait_until(lambda: len(self.texts) > 1)
        return self.paid

    @workflow.signal
    async def say(self, text: str, times: int = 1) -> None:
        self.texts += [text] * times

    @workflow.query
    def said(self, prefix: str) -> list[str]:
        return [prefix + text for text in self.texts]

    @workflow.view
    def price(self) -> Price | None:
        return self.paid


@workflow.defn
async def retries(times: int) -> str:
    return await flaky(times)


@workflow.defn
async def fails(kind: str) -> str:
    match kind:
        case "broken":
            await broken()
        case "final":
            await final()
        case "endless":
            await endless()
        case _:
            return str(await lies())
    return "no failure"


@workflow.defn
async def keeps_books(text: str) -> tuple[list[str], int]:
    async with asyncio.TaskGroup() as group:
        entries = group.create_task(Ledger.enter(text))
        number = group.create_task(double(21))
    return entries.result(), number.result()


@activity.defn(retry=activity.Retry(maximum_attempts=3))
async def charge_both() -> None:
    seen.append(("both", activity.info().attempt, ()))
    async with asyncio.TaskGroup() as group:
        group.create_task(charge.fn("a", Price(Decimal(1000))))
        group.create_task(charge.fn("b", Price(Decimal(2000))))


@workflow.defn
async def fails_in_groups(how: str) -> list[str]:
    caught: list[str] = []
    try:
        if how == "activity":
            await charge_both()
        async with asyncio.TaskGroup() as group:
            group.create_task(charge("a", Price(Decimal(1000))))
            group.create_task(broken())
    except* Declined as declined:
        if how == "leaves":
            raise
        caught += [str(each) for each in declined.exceptions]
    except* ActivityFailed:
        if how == "leaves":
            raise
    return caught


@activity.step(retry=activity.Retry(first_interval="1s"))
def counted_step() -> list[int]:
    heard: list[int] = [*activity.last_heartbeat()]
    activity.heartbeat(*heard, activity.info().attempt)
    if len(heard) < 2 and activity.info().attempt < 5:
        raise ConnectionError("not yet")
    return heard


@workflow.defn
async def steps_on() -> list[int]:
    return await counted_step()


@workflow.defn
class Liar:
    def __init__(self) -> None:
        self.lies: Any = "x"

    @workflow.run
    async def run(self) -> int:
        await workflow.sleep("1 hour")
        return cast("int", self.lies)

    @workflow.query
    def number(self) -> int:
        return cast("int", self.lies)

    @workflow.view
    def shown(self) -> int:
        return cast("int", self.lies)


undone: list[str] = []


@activity.defn
def undo(what: str) -> None:
    undone.append(what)


@workflow.defn
async def compensates(sleeps: bool) -> None:
    async with workflow.saga() as saga:
        saga.compensate(undo, "first")
        saga.compensate(undo, what="second")
        if sleeps:
            await workflow.sleep("30 days")
        raise Failure("nothing came of it")


REGISTRY = Registry.of(
    [Buy, retries, fails, fails_in_groups, Liar, keeps_books, steps_on, compensates],
    [charge, charge_both, counted_step, flaky, broken, final, endless, lies, double, Ledger.enter, undo],
    [PROVIDER],
)


def on_the_platform(program: Callable[[testing.Environment], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with testing.Environment(REGISTRY) as env:
            await program(env)

    asyncio.run(main())


def test_values_keep_their_types_all_the_way() -> None:
    async def program(env: testing.Environment) -> None:
        buy = await env.client.start("w", Buy.main, "o-1", Price(Decimal("1.50")), gift=True)
        await env.settle()
        assert await buy.view(Buy.price) == Price(Decimal("3.00"))
        await buy.signal(Buy.say, "hello", times=2)
        assert await buy.query(Buy.said, prefix="> ") == ["> o-1 True", "> hello", "> hello"]
        assert await buy.result() == Price(Decimal("3.00"), timedelta(days=1))

    on_the_platform(program)


def test_a_failure_of_an_activity_reaches_the_client_as_itself() -> None:
    async def program(env: testing.Environment) -> None:
        with pytest.raises(WorkflowFailed) as caught:
            await env.client.execute("w", Buy.main, "o-1", Price(Decimal(1000)))
        cause = caught.value.cause
        assert isinstance(cause, Declined)
        assert (cause.reason, cause.price) == ("too much for o-1", Price(Decimal(1000)))

    on_the_platform(program)


def test_a_group_that_leaves_a_run_reaches_the_client_with_its_members() -> None:
    async def program(env: testing.Environment) -> None:
        with pytest.raises(WorkflowFailed, match="ExceptionGroup: ") as caught:
            await env.client.execute("w", fails_in_groups, "leaves")
        group = caught.value.cause
        assert isinstance(group, ExceptionGroup)
        declined, rest = cast("Any", group).split(Declined)
        assert declined is not None
        assert "too much for a" in str(declined.exceptions)
        assert rest is None or rest.subgroup(ActivityFailed) is not None

    on_the_platform(program)


def test_a_group_of_failures_of_an_activity_is_final_and_caught_as_a_group() -> None:
    async def program(env: testing.Environment) -> None:
        seen.clear()
        caught = await env.client.execute("w", fails_in_groups, "activity")
        assert [each.partition(" for ")[0] for each in caught] == ["('too much"] * 2
        assert [each for each in seen if each[0] == "both"] == [("both", 1, ())]

    on_the_platform(program)


def test_a_result_that_does_not_fit_its_annotation_suspends_the_run_at_its_end() -> None:
    async def program(env: testing.Environment) -> None:
        liar = await env.client.start("w", Liar.run)
        with pytest.raises(QueryFailed, match="the answer of query 'number' expected int, got str"):
            await liar.query(Liar.number)
        await env.settle()
        assert "expected int, got str" in (await env.client.describe("w")).reason
        with pytest.raises(
            UsageError, match=r"suspended: .*the result of workflow 'Liar' expected int, got str"
        ):
            await liar.result()

    on_the_platform(program)


def test_what_does_not_fit_is_refused_before_anything_is_sent() -> None:
    async def program(env: testing.Environment) -> None:
        wrong: Any = "much"
        with pytest.raises(PayloadError, match="workflow 'Buy': argument 'price' expected object, got str"):
            await env.client.start("w", Buy.main, "o-1", wrong)
        buy = await env.client.start("w", Buy.main, "o-1", Price(Decimal(1)))
        with pytest.raises(PayloadError, match="argument 'times' expected int, got str"):
            await buy.signal(Buy.say, "x", wrong)

    on_the_platform(program)


def test_attempts_share_a_key_get_the_last_heartbeat_and_wait_as_asked() -> None:
    async def program(env: testing.Environment) -> None:
        seen.clear()
        begun = env.now()
        key = await env.client.execute("w", retries, 2)
        assert seen == [(key, 1, ()), (key, 2, ("at", 1)), (key, 3, ("at", 2))]
        assert timedelta(days=2) <= env.now() - begun < timedelta(days=2, seconds=1)

    on_the_platform(program)


def test_the_next_attempt_of_a_step_gets_the_last_heartbeat() -> None:
    async def program(env: testing.Environment) -> None:
        assert await env.client.execute("w", steps_on) == [1, 2]

    on_the_platform(program)


def test_an_exception_that_is_no_failure_is_retried_and_then_the_cause() -> None:
    async def program(env: testing.Environment) -> None:
        with pytest.raises(WorkflowFailed) as caught:
            await env.client.execute("w", fails, "broken")
        error = caught.value.cause
        assert isinstance(error, ActivityFailed)
        assert error.attempts == 3
        assert isinstance(error.cause, RemoteException)
        assert str(error.cause).endswith("NotHere: gone")

    on_the_platform(program)


def test_a_subclass_of_what_is_never_retried_is_not_either() -> None:
    async def program(env: testing.Environment) -> None:
        with pytest.raises(WorkflowFailed) as caught:
            await env.client.execute("w", fails, "final")
        assert isinstance(caught.value.cause, ActivityFailed)
        assert caught.value.cause.attempts == 1

    on_the_platform(program)


def test_an_attempt_whose_time_is_up_is_a_time_out() -> None:
    async def program(env: testing.Environment) -> None:
        with pytest.raises(WorkflowFailed) as caught:
            await env.client.execute("w", fails, "endless")
        assert isinstance(caught.value.cause, ActivityTimedOut)
        assert isinstance(caught.value.cause, TimeoutError)

    on_the_platform(program)


def test_a_result_that_is_not_what_was_annotated_suspends_the_run_and_names_the_activity() -> None:
    async def program(env: testing.Environment) -> None:
        with pytest.raises(
            UsageError, match=r"'w' is suspended.*the result of activity 'lies' expected int, got str"
        ):
            await env.client.execute("w", fails, "lies")

    on_the_platform(program)


def test_a_provided_instance_is_the_same_for_all_calls() -> None:
    async def program(env: testing.Environment) -> None:
        assert await env.client.execute("w-1", keeps_books, "one") == (["opened", "one"], 42)
        assert await env.client.execute("w-2", keeps_books, "two") == (["opened", "one", "two"], 42)

    on_the_platform(program)


def test_fakes_of_functions_methods_and_steps_run_in_their_place() -> None:
    async def enter(text: str) -> list[str]:
        return [text.upper()]

    async def program(env: testing.Environment) -> None:
        with testing.fake(Ledger.enter, enter), testing.fake(double, lambda number: number + 1):
            assert await env.client.execute("w", keeps_books, "x") == (["X"], 22)

    on_the_platform(program)


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_saga_undoes_on_failure_and_on_cancellation(is_cancelled: bool) -> None:
    async def program(env: testing.Environment) -> None:
        undone.clear()
        run = await env.client.start("w", compensates, is_cancelled)
        if is_cancelled:
            await env.sleep("1 day")
            await run.cancel("changed my mind")
        with pytest.raises(WorkflowFailed) as caught:
            await run.result()
        assert isinstance(caught.value.cause, Cancelled if is_cancelled else Failure)
        assert undone == ["second", "first"]

    on_the_platform(program)
