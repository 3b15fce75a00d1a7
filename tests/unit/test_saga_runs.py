"""Sagas of whole runs: retries, in parallel, what is seen of a step that is not undone."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import pytest

from perdure import activity, testing, workflow
from perdure.client.waits import waits_for
from perdure.errors import Cancelled, Failure, UsageError, WorkflowFailed
from perdure.registry import Registry

ONCE = activity.Retry(maximum_attempts=1)
calls: Counter[str] = Counter()
running: list[str] = []


@dataclass(eq=False)
class NoFlight(Failure):
    to: str


@activity.defn(retry=ONCE)
async def cancel_hotel(name: str) -> None:
    calls[name] += 1
    if calls[name] < 3:
        raise ConnectionError(f"{name} does not answer")


@activity.defn(retry=ONCE)
async def never(name: str) -> None:
    calls[name] += 1
    raise ConnectionError(f"{name} is closed for ever")


@activity.defn
async def undo(name: str) -> None:
    running.append(name)
    while len(running) < 3:
        await asyncio.sleep(0)


@workflow.defn
async def trip(retry: str) -> None:
    tries = activity.Retry(maximum_attempts=5, first_interval="1 hour")
    async with workflow.saga(retry=tries if retry else None) as saga:
        saga.compensate(cancel_hotel, "Ritz")
        saga.options(retry=activity.Retry(maximum_attempts=2), name="the motel").compensate(never, "motel")
        raise NoFlight("Rome")


@workflow.defn
async def in_parallel() -> None:
    async with workflow.saga(parallel=True) as saga:
        for name in "abc":
            saga.compensate(undo, name)
        saga.compensate(partial(never, "hut"))
        raise NoFlight("Rome")


@workflow.defn
async def caught() -> list[str]:
    saga = workflow.saga()
    try:
        async with saga:
            saga.compensate(never, "inn")
            raise NoFlight("Rome")
    except NoFlight:
        return [f"{each.name} after {each.attempts}" for each in saga.failures]


@workflow.defn
async def waiting() -> None:
    async with workflow.saga(retry=activity.Retry(first_interval="1 day", coefficient=1)) as saga:
        saga.compensate(never, "inn")
        await asyncio.Event().wait()


@workflow.defn
async def refused() -> None:
    async with workflow.saga(retry=activity.Retry()) as saga:
        saga.compensate(refuse)
        raise NoFlight("Rome")


def refuse() -> None:
    calls["refuse"] += 1
    raise NoFlight("anywhere")


@workflow.defn
async def mistaken() -> None:
    async with workflow.saga() as saga:
        saga.compensate(mistake)
        raise NoFlight("Rome")


def mistake() -> None:
    raise UsageError("a mistake of the author's")


@workflow.defn
async def left() -> None:
    async with workflow.saga() as saga:
        saga.compensate(never, "inn")
        await asyncio.Event().wait()


REGISTRY = Registry.of(
    [trip, in_parallel, caught, waiting, refused, mistaken, left], [cancel_hotel, never, undo]
)


def played(scenario: Callable[[testing.Environment], Awaitable[None]]) -> None:
    async def main() -> None:
        calls.clear()
        running.clear()
        async with testing.Environment(REGISTRY) as env:
            await scenario(env)

    asyncio.run(main())


def notes_of(error: WorkflowFailed) -> list[str]:
    return [note for note in getattr(error.cause, "__notes__", []) if note.startswith("not undone")]


def test_a_compensation_that_fails_is_tried_again_and_the_next_one_waits_for_it() -> None:
    async def scenario(env: testing.Environment) -> None:
        run = await env.client.start("trip", trip, "yes")
        with pytest.raises(WorkflowFailed) as failed:
            await run.result()
        assert isinstance(failed.value.cause, NoFlight)
        assert calls == {"Ritz": 3, "motel": 2}
        (note,) = notes_of(failed.value)
        assert note.startswith("not undone: the motel failed in 2 attempts: ActivityFailed: ")
        found = await env.client.describe("trip")
        assert "NoFlight" in found.reason
        assert "not undone: the motel: ActivityFailed" in found.reason

    played(scenario)


def test_without_retries_a_compensation_that_fails_is_called_once() -> None:
    async def scenario(env: testing.Environment) -> None:
        run = await env.client.start("trip", trip, "")
        with pytest.raises(WorkflowFailed) as failed:
            await run.result()
        assert calls == {"Ritz": 1, "motel": 2}
        assert len(notes_of(failed.value)) == 2

    played(scenario)


def test_in_parallel_all_run_at_the_same_time_and_one_that_fails_stops_none() -> None:
    async def scenario(env: testing.Environment) -> None:
        run = await env.client.start("trip", in_parallel)
        with pytest.raises(WorkflowFailed) as failed:
            await run.result()
        assert sorted(running) == ["a", "b", "c"]
        assert len(notes_of(failed.value)) == 1

    played(scenario)


def test_the_code_learns_which_steps_are_not_undone_and_the_description_names_them() -> None:
    async def scenario(env: testing.Environment) -> None:
        run = await env.client.start("trip", caught)
        assert await run.result() == ["never after 1"]
        assert (await env.client.describe("trip")).reason.startswith("not undone: never: ActivityFailed")

    played(scenario)


def test_a_compensation_that_never_succeeds_is_seen_with_its_attempts() -> None:
    async def scenario(env: testing.Environment) -> None:
        run = await env.client.start("trip", waiting)
        await run.cancel("rain")
        await env.sleep("3 days 1 hour")
        (found,) = (await env.client.describe("trip")).compensations
        assert (found.name, found.attempt, found.is_backing_off) == ("never", 5, True)
        assert "closed for ever" in found.reason
        assert "the compensation never, attempt 5 (ActivityFailed" in await waits_for(
            env.client._transport,  # pyright: ignore[reportPrivateUsage]
            "trip",
        )
        await run.cancel("storm")
        await env.sleep("1 hour")
        assert (await env.client.describe("trip")).status == "running", "compensations are shielded"
        await run.terminate()

    played(scenario)


def test_a_failure_of_your_own_is_final() -> None:
    async def scenario(env: testing.Environment) -> None:
        run = await env.client.start("trip", refused)
        with pytest.raises(WorkflowFailed):
            await run.result()
        assert calls == {"refuse": 1}

    played(scenario)


def test_a_mistake_in_a_compensation_suspends_the_run_instead_of_leaving_the_step_as_it_is() -> None:
    async def scenario(env: testing.Environment) -> None:
        await env.client.start("trip", mistaken)
        await env.sleep("1s")
        found = await env.client.describe("trip")
        assert (found.status, "a mistake of the author's" in found.reason) == ("suspended", True)

    played(scenario)


def test_a_cancelled_run_says_which_steps_are_not_undone() -> None:
    async def scenario(env: testing.Environment) -> None:
        run = await env.client.start("trip", left)
        await run.cancel("rain")
        with pytest.raises(WorkflowFailed, match=r"rain; not undone: never") as failed:
            await run.result()
        assert isinstance(failed.value.cause, Cancelled)

    played(scenario)


@pytest.mark.parametrize("retry", [3, "always", {}])
def test_an_invalid_retry_is_refused_with_the_line(retry: object) -> None:
    given: object = retry
    with pytest.raises(UsageError, match=r"test_saga_runs\.py:\d+: retry of a saga must be"):
        workflow.saga(retry=given)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
