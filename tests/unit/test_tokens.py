"""Tokens in workflow code: made, awaited, answered, replayed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from perdure import activity, testing, workflow
from perdure.errors import (
    Failure,
    RequestRefused,
    TokenClosed,
    TokenFailed,
    TokenNotFound,
    UsageError,
    WorkflowFailed,
)
from perdure.model.tokens import TokenAddress, parse
from perdure.registry import Registry
from perdure.replay.tokens import NAMED
from perdure.system import RandomIds


@dataclass
class Approval:
    by: str
    cents: int


@dataclass(eq=False)
class Declined(Failure):
    why: str


mails: dict[str, str] = {}


@activity.defn
async def mail(to: str, text: str) -> None:
    mails[to] = text


@workflow.defn
async def approved(to: str) -> str:
    token = workflow.token(Approval, timeout="3 days")
    await mail(to, token.text)
    try:
        approval = await token
    except TimeoutError:
        return "too late"
    except TokenFailed as failed:
        return f"failed: {failed.cause!r}"
    return f"{approval.by} approved {approval.cents}"


@workflow.defn
async def waits_twice(to: str) -> list[Any]:
    token = workflow.token(int)
    other = workflow.token(public=True)
    await mail(to, token.text)
    await mail(f"{to} other", other.text)
    try:
        async with workflow.timeout("1 hour"):
            await token
    except TimeoutError:
        pass
    values = await asyncio.gather(token, token, other)
    return [*values, token.is_answered, repr(token)]


def answered(scenario: Callable[[testing.Environment], Awaitable[None]]) -> None:
    async def main() -> None:
        async with testing.Environment(
            Registry.of([approved, waits_twice, misuses, named, uncaught], [mail])
        ) as env:
            await scenario(env)

    asyncio.run(main())


async def mailed(env: testing.Environment, to: str) -> str:
    """The text of the token that was mailed."""
    for _ in range(1_000):
        if to in mails:
            await env.sleep("1s")  # the activity is recorded, too
            return mails.pop(to)
        await env.sleep("1s")
    raise AssertionError(f"nothing was mailed to {to}")


def test_anyone_who_has_the_text_gives_the_value() -> None:
    async def scenario(env: testing.Environment) -> None:
        handle = await env.client.start("o-1", approved, "ada")
        text = await mailed(env, "ada")
        assert (await env.client.describe("o-1")).tokens[0].number == 1
        assert (await handle.waits_for()).startswith("it waits for token 1, until ")
        assert text not in await handle.waits_for()
        await env.client.resolve(text, Approval("ada", 5))
        assert await handle.result() == "ada approved 5"
        await env.client.resolve(text, {"cents": 5, "by": "ada"})
        with pytest.raises(TokenClosed, match="another value"):
            await env.client.resolve(text, Approval("ada", 6))

    answered(scenario)


def test_anyone_who_has_the_text_fails_the_token() -> None:
    async def scenario(env: testing.Environment) -> None:
        handle = await env.client.start("o-2", approved, "bea")
        text = await mailed(env, "bea")
        await env.client.fail(text, Declined("no money"))
        await env.client.fail(text, Declined("no money"))
        assert await handle.result() == "failed: Declined(why='no money')"
        with pytest.raises(TokenClosed):
            await env.client.fail(text, "another reason")

    answered(scenario)


def test_a_value_of_the_wrong_type_is_refused_and_the_run_still_waits() -> None:
    async def scenario(env: testing.Environment) -> None:
        handle = await env.client.start("o-3", approved, "cid")
        text = await mailed(env, "cid")
        before = len(await env.client.history("o-3"))
        for wrong in (None, 7, {"by": "cid"}, {"by": 1, "cents": 2}, [Approval("cid", 1)]):
            with pytest.raises(RequestRefused, match="token 1"):
                await env.client.resolve(text, wrong)
        assert len(await env.client.history("o-3")) == before
        await env.client.resolve(text, Approval("cid", 1))
        assert await handle.result() == "cid approved 1"

    answered(scenario)


def test_an_answer_that_does_not_come_raises_a_timeout_and_is_refused_later() -> None:
    async def scenario(env: testing.Environment) -> None:
        handle = await env.client.start("o-4", approved, "dan")
        text = await mailed(env, "dan")
        await env.sleep("3 days")
        assert await handle.result() == "too late"
        with pytest.raises(TokenClosed, match="expired"):
            await env.client.resolve(text, Approval("dan", 1))

    answered(scenario)


def test_a_wait_that_is_cancelled_leaves_the_token_as_it_is() -> None:
    async def scenario(env: testing.Environment) -> None:
        handle = await env.client.start("o-5", waits_twice, "eve")
        text, other = await mailed(env, "eve"), await mailed(env, "eve other")
        assert not getattr(parse(text), "is_public", True)
        assert getattr(parse(other), "is_public", False)
        await env.sleep("2 hours")
        await env.client.resolve(text, 7)
        await env.client.resolve(other)
        assert await handle.result() == [7, 7, None, True, "<token 1>"]

    answered(scenario)


def test_a_text_that_is_no_token_of_the_platform_changes_nothing() -> None:
    async def scenario(env: testing.Environment) -> None:
        await env.client.start("o-6", approved, "fay")
        text = await mailed(env, "fay")
        address = parse(text)
        assert address is not None
        others = (
            "",
            "fay",
            text[:-1],
            TokenAddress("nobody", address.run_id, 1, address.secret).text,
            TokenAddress("o-6", "another-run", 1, address.secret).text,
            TokenAddress("o-6", address.run_id, 1, "0" * 32).text,
        )
        before = len(await env.client.history("o-6"))
        for other in others:
            with pytest.raises(TokenNotFound):
                await env.client.resolve(other, Approval("fay", 1))
            with pytest.raises(TokenNotFound):
                await env.client.fail(other, "no")
        assert len(await env.client.history("o-6")) == before

    answered(scenario)


def test_the_secrets_of_two_tokens_differ_and_have_128_bits() -> None:
    async def scenario(env: testing.Environment) -> None:
        await env.client.start("o-7", waits_twice, "gus")
        found = [parse(await mailed(env, to)) for to in ("gus", "gus other")]
        secrets = {each.secret for each in found if each is not None}
        assert len(secrets) == 2
        assert all(len(each) == 32 and int(each, 16) >= 0 for each in secrets)

    answered(scenario)


@workflow.defn
async def misuses(how: str) -> None:
    if how == "zero":
        await workflow.token(int, timeout="0s")
    elif how == "text":
        await workflow.token(int, timeout="soon")
    elif how == "name":
        await workflow.token(int, name="\n")
    elif how == "many":
        await asyncio.gather(*(workflow.token(int, name=f"n-{number}") for number in range(NAMED + 1)))
    else:
        await workflow.wait_until(lambda: workflow.token(int).text)


@pytest.mark.parametrize("how", ["zero", "text", "name", "many", "condition"])
def test_an_invalid_token_call_suspends_the_run(how: str) -> None:
    async def scenario(env: testing.Environment) -> None:
        handle = await env.client.start(f"m-{how}", misuses, how)
        assert "workflow.token" in await handle.waits_for() or "issue a token" in await handle.waits_for()

    answered(scenario)


def test_tokens_are_for_workflow_code() -> None:
    with pytest.raises(UsageError, match=r"workflow.token is for workflow code"):
        workflow.token(int).is_answered  # noqa: B018


@workflow.defn
async def named() -> list[Any]:
    first = workflow.token(int, name="n")
    same = workflow.token(int, name="n")
    await mail("named", first.text)
    value = await same
    other = workflow.token(int, name="n")
    return [value, first.is_new, same.is_new, first.text == same.text, other.is_new, other.number]


def test_a_name_stands_for_one_token_until_its_answer_is_awaited() -> None:
    async def scenario(env: testing.Environment) -> None:
        handle = await env.client.start("n-1", named)
        text = await mailed(env, "named")
        (wait,) = (await env.client.describe("n-1")).tokens
        assert "'n'" in await handle.waits_for(), wait
        await env.client.resolve(text, 7)
        assert await handle.result() == [7, True, False, True, True, 2]

    answered(scenario)


@workflow.defn
async def uncaught() -> int:
    token = workflow.token(int)
    await mail("uncaught", token.text)
    return await token


def test_an_uncaught_failed_token_fails_the_run_with_the_cause() -> None:
    async def scenario(env: testing.Environment) -> None:
        handle = await env.client.start("o-8", uncaught)
        await env.client.fail(await mailed(env, "uncaught"), Declined("no"))
        with pytest.raises(WorkflowFailed) as caught:
            await handle.result()
        assert isinstance(caught.value.cause, TokenFailed)
        assert isinstance(caught.value.cause.__cause__, Declined)

    answered(scenario)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only POSIX forks")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_draws_other_tokens() -> None:
    """Tokens are made ahead, in the memory that a fork copies."""
    ids = RandomIds()
    ids.token()
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, " ".join(ids.token() for _ in range(100)).encode())
        os._exit(0)
    os.close(writing)
    ours = {ids.token() for _ in range(100)}
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        theirs = pipe.read().split()
    assert len(theirs) == 100
    assert not ours & set(theirs)
