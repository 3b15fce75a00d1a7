"""Jobs: activities without a workflow."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from perdure import activity, errors, testing, workflow
from perdure.activity import Retry
from perdure.builtin.job import JOB
from perdure.client.description import begins_at
from perdure.errors import Failure, WorkflowAlreadyStarted, WorkflowFailed
from perdure.model.commands import StartWorkflow
from perdure.model.options import ActivityOptions
from perdure.model.states import Status
from perdure.registry import Registry

Test = Callable[[], Coroutine[Any, Any, None]]


def on_a_loop(test: Test) -> Callable[[], None]:
    @functools.wraps(test)
    def run() -> None:
        asyncio.run(test())

    return run


CALLS: list[tuple[Any, ...]] = []


@dataclass
class Receipt:
    order: str
    cents: Decimal


@dataclass(eq=False)
class Declined(Failure):
    why: str


@activity.defn(retry=Retry(first_interval="1s"))
async def charge(order: str, cents: Decimal = Decimal("9.50"), *, note: str = "") -> Receipt:
    CALLS.append((order, cents, note))
    if note == "declined":
        raise Declined("no money")
    if note == "once" and activity.info().attempt == 1:
        raise ConnectionError("the bank does not answer")
    return Receipt(order, cents)


@activity.step
def double(n: int) -> int:
    return 2 * n


@activity.defn
async def waits() -> None:
    await asyncio.Event().wait()


@workflow.defn
async def flow() -> None:
    await workflow.sleep("1 day")


REGISTRY = Registry.of([flow], [charge, double, waits])


@pytest.fixture(autouse=True)
def _fresh() -> None:
    CALLS.clear()


@on_a_loop
async def test_a_job_returns_what_its_activity_returns() -> None:
    async with testing.Environment(REGISTRY) as env:
        assert await env.client.run(charge, "o-1") == Receipt("o-1", Decimal("9.50"))
        assert await env.client.run(double, 4, id="double-4") == 8


@on_a_loop
async def test_a_job_runs_once_per_id_and_keeps_its_result() -> None:
    async with testing.Environment(REGISTRY) as env:
        first = await env.client.submit("charge-1", charge, "o-1", Decimal("1.10"), note="n")
        assert await first.result() == Receipt("o-1", Decimal("1.10"))
        await env.restart()
        again = await env.client.submit("charge-1", charge, "o-1", Decimal("1.10"), note="n")
        assert (again.run_id, await again.result()) == (first.run_id, Receipt("o-1", Decimal("1.10")))
        assert [("o-1", Decimal("1.10"), "n")] == CALLS


@on_a_loop
async def test_a_job_is_retried_by_the_options_of_its_activity() -> None:
    async with testing.Environment(REGISTRY) as env:
        assert await env.client.run(charge, "o-1", note="once") == Receipt("o-1", Decimal("9.50"))
        once = charge.options(retry=Retry(maximum_attempts=1))
        with pytest.raises(WorkflowFailed, match="does not answer"):
            await env.client.run(once, "o-2", note="once")


@on_a_loop
async def test_a_failed_job_says_why_and_runs_again_when_asked_to() -> None:
    async with testing.Environment(REGISTRY) as env:
        with pytest.raises(WorkflowFailed) as failed:
            await env.client.run("j", charge, "o-1", note="declined")
        assert isinstance(failed.value.cause, Declined)
        with pytest.raises(WorkflowFailed):
            await env.client.run("j", charge, "o-1", note="declined")
        assert len(CALLS) == 1
        after = env.client.options(if_closed="after_failure")
        assert await after.run("j", charge, "o-1") == Receipt("o-1", Decimal("9.50"))
        assert await after.run("j", charge, "o-1") == Receipt("o-1", Decimal("9.50"))
        assert len(CALLS) == 2


@on_a_loop
async def test_a_delayed_job_is_visible_before_it_runs() -> None:
    async with testing.Environment(REGISTRY) as env:
        job = await env.client.options(delay="1h", attributes={"shop": 7}).submit(double, 2)
        assert begins_at(await env.client.state(job.id)) == int(env.now().timestamp() * 1e6) + 3_600_000_000
        assert await job.result() == 4
        (listed,) = await env.client.list(attributes={"shop": 7, "activity": "double"})
        assert (listed.workflow_id, listed.type, listed.status) == (job.id, JOB.name, Status.COMPLETED)


@on_a_loop
async def test_a_cancelled_job_asks_its_activity_to_stop() -> None:
    async with testing.Environment(REGISTRY) as env:
        job = await env.client.submit(waits)
        await env.settle()
        await job.cancel("enough")
        with pytest.raises(WorkflowFailed, match="enough"):
            await job.result()


@on_a_loop
async def test_an_id_in_use_by_something_else_is_refused() -> None:
    async with testing.Environment(REGISTRY) as env:
        await env.client.start("w", flow)
        with pytest.raises(WorkflowAlreadyStarted, match="another type"):
            await env.client.submit(double, 1, id="w")
        await env.client.run(double, 1, id="d")
        with pytest.raises(WorkflowAlreadyStarted, match="calls the activity 'double', not 'charge'"):
            await env.client.submit("d", charge, "o-1")


@on_a_loop
async def test_arguments_that_do_not_fit_are_refused_before_anything_is_recorded() -> None:
    async with testing.Environment(REGISTRY) as env:
        wrong: Any = "four"
        with pytest.raises(errors.UsageError, match="activity 'double'"):
            await env.client.submit(double, wrong)
        not_one: Any = flow
        with pytest.raises(errors.UsageError, match="is not an activity"):
            await env.client.submit(not_one)
        assert await env.client.list() == []


@on_a_loop
async def test_a_job_of_an_unknown_activity_waits_and_says_so() -> None:
    async with testing.Environment(REGISTRY) as env:
        job = await env.client.submit_by_name("nowhere", [1], id="j")
        await env.sleep("1s")
        assert "nowhere" in await job.waits_for()
        later = await env.client.submit_by_name(
            "double", [3], options=ActivityOptions(queue="", timeout_us=10**7)
        )
        assert await later.result() == 6


@on_a_loop
async def test_a_record_that_starts_a_job_with_an_unreadable_call_is_refused() -> None:
    async with testing.Environment(REGISTRY) as env:
        with pytest.raises(errors.RequestRefused, match="job"):
            await env.client.start_by_name("j", JOB.name, [{"activity": 7}])
        assert StartWorkflow("j", type=JOB.name).type == "perdure.job"
