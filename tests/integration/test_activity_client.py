"""`activity.client()`: a client inside activities and steps, async and in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from perdure import activity, testing, workflow
from perdure.activity import Retry
from perdure.client import Client
from perdure.embedded import Platform
from perdure.errors import ActivityFailed, UsageError, WorkflowFailed
from perdure.registry import Registry

ONCE = Retry(maximum_attempts=1)


@workflow.defn
class Review:
    def __init__(self) -> None:
        self.verdict = ""

    @workflow.run
    async def process(self, order: str) -> str:
        await workflow.wait_until(lambda: self.verdict)
        return f"{order} {self.verdict}"

    @workflow.signal
    def judge(self, verdict: str) -> None:
        self.verdict = verdict


@activity.defn(retry=ONCE)
async def ask(order: str) -> str:
    async with activity.client() as client:
        review = await client.start(f"{order}-async", Review.process, order)
        await review.signal(Review.judge, "fine")
        first = await review.result()
    again = activity.client().get(f"{order}-async", Review.process)  # closing the first has closed nothing
    return f"{first}, {await again.result()}"


@activity.defn(retry=ONCE)
def ask_in_a_thread(order: str) -> str:
    with activity.sync_client() as client:
        review = client.start(f"{order}-sync", Review.process, order)
        review.signal(Review.judge, "well")
    untyped: Any = activity.client()
    result: str = untyped.get(f"{order}-sync", Review.process).result()
    return result


@activity.step(retry=ONCE)
async def look(order: str) -> str:
    return str((await activity.client().describe(f"{order}-async")).status)


@activity.defn(retry=ONCE)
async def blocks() -> None:
    activity.sync_client()


@activity.defn(retry=ONCE)
def on_another_loop() -> None:
    async def body() -> None:
        activity.client()

    asyncio.run(body())


@workflow.defn
class Orders:
    @workflow.run
    async def process(self, order: str) -> list[str]:
        return [await ask(order), await ask_in_a_thread(order), await look(order)]


@workflow.defn
async def misuses(which: str) -> None:
    await {"blocks": blocks, "loop": on_another_loop}[which]()


@workflow.defn
async def in_workflow_code() -> None:
    activity.client()


REGISTRY = Registry.of(
    [Review, Orders, misuses, in_workflow_code], [ask, ask_in_a_thread, look, blocks, on_another_loop]
)
EXPECTED = ["o fine, o fine", "o well", "completed"]


async def _in_the_environment(body: Callable[[Client], Coroutine[Any, Any, Any]]) -> Any:
    async with testing.Environment(REGISTRY) as env:
        return await body(env.client)


async def _orders(client: Client) -> list[str]:
    return await client.execute("o", Orders.process, "o")


def test_in_the_test_environment() -> None:
    assert asyncio.run(_in_the_environment(_orders)) == EXPECTED


@pytest.mark.parametrize("medium", ["memory", "sqlite"])
def test_on_one_machine(medium: str, tmp_path: Path) -> None:
    url = "memory://" if medium == "memory" else f"sqlite:///{tmp_path}/app.db"

    async def scenario(platform: Platform) -> list[str]:
        async with platform.client() as client, asyncio.timeout(60):
            return await _orders(client)

    with Platform(REGISTRY, url) as platform:
        assert asyncio.run(scenario(platform)) == EXPECTED


@pytest.mark.parametrize(
    ("which", "message"),
    [("blocks", "would block the loop"), ("loop", "an asyncio loop of yours")],
)
def test_a_client_of_the_other_kind_is_refused(which: str, message: str) -> None:
    async def scenario(client: Client) -> None:
        with pytest.raises(WorkflowFailed) as failed:
            await client.execute("m", misuses, which)
        assert isinstance(failed.value.cause, ActivityFailed | UsageError)
        assert message in str(failed.value.cause)

    with pytest.raises(UsageError, match=message):  # a usage error suspends the run
        asyncio.run(_in_the_environment(scenario))


def test_workflow_code_is_told_what_to_use() -> None:
    async def scenario(client: Client) -> None:
        await client.execute("m", in_workflow_code)

    with pytest.raises(UsageError, match=r"this is workflow code: use workflow\.execute"):
        asyncio.run(_in_the_environment(scenario))


def test_outside_an_attempt_it_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no attempt is running here; elsewhere use Client\.connect"):
        activity.client()
    with testing.attempt(), pytest.raises(UsageError, match=r"testing\.attempt\(client=env\.client\)"):
        activity.client()


def test_a_test_may_give_an_attempt_its_client() -> None:
    async def scenario(client: Client) -> str:
        with testing.attempt(client=client):
            return await ask("x")

    assert asyncio.run(_in_the_environment(scenario)) == "x fine, x fine"
