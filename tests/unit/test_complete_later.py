"""Activities whose result comes from outside: given, failed, too late, checked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from perdure import activity, testing, workflow
from perdure.client.waits import waits_for
from perdure.errors import (
    ActivityFailed,
    ActivityTimedOut,
    Failure,
    RequestRefused,
    TokenClosed,
    TokenNotFound,
    UsageError,
)
from perdure.registry import Registry


@dataclass
class Approval:
    by: str


@dataclass(eq=False)
class Declined(Failure):
    why: str


texts: list[str] = []


@activity.defn(timeout="3 days", retry=activity.Retry(maximum_attempts=2))
async def ask(order: str) -> Approval:
    later = activity.complete_later()
    texts.append(later.text)
    if order == "breaks" and activity.info().attempt == 1:
        raise ConnectionError("the mail was not sent")
    return later.result


@activity.defn(timeout="3 days")
def ask_in_a_thread(order: str) -> Approval:
    later = activity.complete_later(public=True)
    texts.append(later.text)
    return later.result


@activity.step(timeout="3 days")
async def ask_in_a_step(order: str) -> Approval:
    later = activity.complete_later()
    texts.append(later.text)
    return later.result


@workflow.defn
async def approved(how: str, order: str) -> str:
    kinds = {"async": ask, "thread": ask_in_a_thread, "step": ask_in_a_step}
    given: Approval
    try:
        if how == "inline":
            given = await workflow.step("ask", ask_in_a_step.fn, order, timeout="3 days")
        else:
            given = await kinds[how](order)
    except Declined as declined:
        return f"declined: {declined.why}"
    except ActivityTimedOut as late:
        return f"too late after {late.attempts}"
    except ActivityFailed as failed:
        return f"failed: {failed.cause!r}"
    return given.by


def played(scenario: Callable[[testing.Environment], Awaitable[None]]) -> None:
    async def main() -> None:
        registry = Registry.of([approved], [ask, ask_in_a_thread, ask_in_a_step])
        async with testing.Environment(registry) as env:
            texts.clear()
            await scenario(env)

    asyncio.run(main())


@pytest.mark.parametrize("how", ["async", "thread", "step", "inline"])
def test_anyone_who_has_the_text_gives_the_result(how: str) -> None:
    async def scenario(env: testing.Environment) -> None:
        run = await env.client.start(f"run-{how}", approved, how, "order")
        await env.sleep("1 hour")
        with pytest.raises(RequestRefused, match="result of activity"):
            await env.client.resolve(texts[0], {"buy": 1})
        await env.client.resolve(texts[0], Approval("Ada"))
        assert await run.result() == "Ada"
        await env.client.resolve(texts[0], {"by": "Ada"})
        with pytest.raises(TokenClosed):
            await env.client.resolve(texts[0], Approval("Eve"))
        assert len(texts) == 1

    played(scenario)


def test_a_failure_of_the_users_class_is_final_and_keeps_its_class() -> None:
    async def scenario(env: testing.Environment) -> None:
        run = await env.client.start("run", approved, "async", "order")
        await env.sleep("1 hour")
        await env.client.fail(texts[0], Declined("too much"))
        assert await run.result() == "declined: too much"
        await env.client.fail(texts[0], Declined("too much"))

    played(scenario)


def test_another_exception_leads_to_another_attempt_with_another_text() -> None:
    async def scenario(env: testing.Environment) -> None:
        run = await env.client.start("run", approved, "async", "order")
        await env.sleep("1 hour")
        await env.client.fail(texts[0], ConnectionError("down"))
        await env.sleep("1 hour")
        first, second = texts
        with pytest.raises(TokenNotFound):
            await env.client.resolve(first, Approval("Ada"))
        await env.client.resolve(second, Approval("Bob"))
        assert await run.result() == "Bob"

    played(scenario)


def test_a_function_that_raises_has_failed_and_its_token_is_invalid() -> None:
    async def scenario(env: testing.Environment) -> None:
        run = await env.client.start("run", approved, "async", "breaks")
        await env.sleep("1 hour")
        first, second = texts
        with pytest.raises(TokenNotFound):
            await env.client.resolve(first, Approval("Ada"))
        await env.client.resolve(second, Approval("Bob"))
        assert await run.result() == "Bob"

    played(scenario)


def test_the_timeout_of_the_attempt_is_that_of_the_answer() -> None:
    async def scenario(env: testing.Environment) -> None:
        run = await env.client.start("run", approved, "async", "order")
        await env.sleep("2 days")
        assert "an answer for activity ask, attempt 1, until" in await waits_for(env.client._transport, "run")
        await env.sleep("7 days")
        assert await run.result() == "too late after 2"
        assert len(texts) == 2

    played(scenario)


def test_a_closed_run_waits_no_longer() -> None:
    async def scenario(env: testing.Environment) -> None:
        run = await env.client.start("run", approved, "async", "order")
        await env.sleep("1 hour")
        await run.terminate("enough")
        with pytest.raises(TokenClosed):
            await env.client.resolve(texts[0], Approval("Ada"))

    played(scenario)


def test_it_is_for_activities() -> None:
    with pytest.raises(UsageError, match="no attempt is running here"):
        activity.complete_later()

    async def called() -> None:
        with testing.attempt():
            await ask("order")

    texts.clear()
    asyncio.run(called())
    assert texts[0].startswith("token_")
