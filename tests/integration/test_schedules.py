"""Schedules start runs at their times, once each."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure import errors, testing, workflow
from perdure.errors import UpdateRejected, UsageError, WorkflowAlreadyStarted, WorkflowNotFound
from perdure.model.states import Status
from perdure.registry import Registry

BEGIN = datetime(2026, 3, 28, 12, tzinfo=UTC)
Test = Callable[[], Coroutine[Any, Any, None]]


def on_a_loop(test: Test) -> Callable[[], None]:
    @functools.wraps(test)
    def run() -> None:
        asyncio.run(test())

    return run


@workflow.defn
async def report(of: str = "all", minutes: int = 0) -> str:
    await workflow.sleep(f"{minutes}m")
    return of


@workflow.defn
async def gone() -> None: ...


REGISTRY = Registry.of([report, gone])


def environment() -> testing.Environment:
    return testing.Environment(REGISTRY, begin=BEGIN)


async def started(env: testing.Environment) -> list[str]:
    found = await env.client.list(type="report", sort="workflow_id", order="oldest")
    return [each.workflow_id for each in found]


@on_a_loop
async def test_a_run_is_started_at_each_time() -> None:
    async with environment() as env:
        nightly = await env.client.schedule(
            "nightly", report, "sales", cron="0 3 * * *", timezone="Europe/Rome"
        )
        assert (await nightly.describe()).coming[:2] == (
            datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 3, 30, 1, tzinfo=UTC)
        )  # fmt: skip
        await env.sleep("3 days")
        ids = ["nightly-2026-03-29T01:00:00Z", "nightly-2026-03-30T01:00:00Z", "nightly-2026-03-31T01:00:00Z"]
        assert await started(env) == ids
        assert await env.client.get(ids[0], report).result() == "sales"
        found = (await nightly.describe()).state
        assert [(each.id, each.outcome) for each in found.recent] == [(each, "completed") for each in ids]
        assert (found.started, found.skipped, found.missed, found.running) == (3, 0, 0, "")


@pytest.mark.parametrize("overlap", ["skip", "queue", "all"])
def test_a_time_at_which_the_run_before_has_not_ended(overlap: Any) -> None:
    """Runs last twelve minutes, and are due every five."""

    async def test() -> None:
        async with environment() as env:
            schedule = await env.client.schedule("s", report, "a", 12, every="5m", overlap=overlap)
            await env.sleep("24m")
            minutes = [int(each.split(":")[1]) for each in await started(env)]
            assert minutes == {"skip": [5, 20], "queue": [5, 10], "all": [5, 10, 15, 20]}[overlap]
            found = (await schedule.describe()).state
            assert found.skipped == {"skip": 2, "queue": 0, "all": 0}[overlap]
            assert found.waiting == {"skip": 0, "queue": 2, "all": 0}[overlap]

    asyncio.run(test())


@pytest.mark.parametrize(
    ("overlap", "ended"), [("cancel", Status.CANCELLED), ("terminate", Status.TERMINATED)]
)
def test_the_run_before_is_stopped(overlap: Any, ended: Status) -> None:
    async def test() -> None:
        async with environment() as env:
            await env.client.schedule("s", report, "a", 12, every="5m", overlap=overlap)
            await env.sleep("11m")
            first, second = await started(env)
            assert (await env.client.state(first)).status is ended
            assert (await env.client.state(second)).status is Status.RUNNING

    asyncio.run(test())


@on_a_loop
async def test_a_paused_schedule_starts_nothing_until_it_is_unpaused() -> None:
    async with environment() as env:
        schedule = await env.client.schedule("s", report, every="1h", paused=True, note="not yet")
        await env.sleep("5h")
        found = await schedule.describe()
        assert found.state.spec.every_us == 3_600_000_000
        assert (await started(env), found.state.note, found.coming) == ([], "not yet", ())
        await schedule.unpause("go")
        assert [each.hour for each in (await schedule.describe()).coming] == [18, 19, 20, 21, 22]
        await env.sleep("90m")
        assert await started(env) == ["s-2026-03-28T18:00:00Z"]
        await schedule.pause("stop")
        await env.sleep("2h")
        assert len(await started(env)) == 1


@on_a_loop
async def test_a_trigger_starts_a_run_now_even_when_it_is_paused() -> None:
    async with environment() as env:
        schedule = await env.client.schedule("s", report, "a", 30, every="1h", paused=True)
        first, second = await schedule.trigger(), await schedule.trigger()
        assert first != second
        await env.settle()
        assert await started(env) == sorted([first, second])


@on_a_loop
async def test_a_backfill_starts_past_times_one_after_the_other() -> None:
    async with environment() as env:
        schedule = await env.client.schedule("s", report, "a", 1, cron="0 * * * *", paused=True)
        day = datetime(2026, 3, 1, tzinfo=UTC)
        assert await schedule.backfill(day, day + timedelta(hours=2)) == 3
        await env.sleep("1s")
        assert await started(env) == ["s-2026-03-01T00:00:00Z"]
        assert (await schedule.describe()).state.backfilling == 1
        await env.sleep("10m")
        assert (await schedule.describe()).state.backfilling == 0
        assert [each[13:15] for each in await started(env)] == ["00", "01", "02"]
        with pytest.raises(UpdateRejected, match="at most 10000 times"):
            await schedule.backfill(day - timedelta(days=10_000), day)
        with pytest.raises(UpdateRejected, match="no time"):
            await schedule.backfill(day + timedelta(minutes=1), day + timedelta(minutes=2))
        with pytest.raises(UsageError, match="time zone"):
            await schedule.backfill(datetime(2026, 1, 1), day)


@on_a_loop
async def test_a_type_that_is_gone_is_reported_and_the_next_time_is_tried() -> None:
    async with environment() as env:
        schedule = await env.client.schedule("s", "vanished", every="1h")
        await env.sleep("2h")
        found = (await schedule.describe()).state
        assert "unknown workflow type 'vanished'" in found.error
        assert [each.outcome[:8] for each in found.recent] == ["refused:", "refused:"]
        await schedule.replace(type(found.spec)("report", every_us=3_600_000_000))
        await env.sleep("1h")
        assert len(await started(env)) == 1
        assert (await schedule.describe()).state.error == ""


@on_a_loop
async def test_a_schedule_survives_crashes_and_catches_up() -> None:
    async with environment() as env:
        await env.client.schedule("s", report, "a", 12, every="5m", overlap="all")
        for _ in range(6):
            await env.restart()
            await env.sleep("150s")
        assert [each.split(":")[1] for each in await started(env)] == ["05", "10", "15"]


@on_a_loop
async def test_an_update_counts_from_the_next_time_on_and_a_deletion_leaves_runs_alone() -> None:
    async with environment() as env:
        schedule = await env.client.schedule("s", report, "a", 90, every="1h")
        await env.sleep("61m")
        await schedule.update(cron="30 * * * *", overlap="all", args=["b"])
        await env.sleep("1h")
        assert await started(env) == ["s-2026-03-28T13:00:00Z", "s-2026-03-28T13:30:00Z"]
        await schedule.delete()
        with pytest.raises(WorkflowNotFound):
            await schedule.pause()
        with pytest.raises(WorkflowNotFound):
            await schedule.describe()
        await env.sleep("1h")
        assert [each.status for each in await env.client.list(type="report")] == [Status.COMPLETED] * 2
        await env.client.schedule("s", report, every="1h")


@on_a_loop
async def test_two_schedules_cannot_have_one_id() -> None:
    async with environment() as env:
        await env.client.schedule("a", report, every="1h")
        with pytest.raises(WorkflowAlreadyStarted, match="there is a schedule 'a'"):
            await env.client.schedule("a", report, every="2h")
        await env.client.schedule("b", report, "x", cron="0 0 * * *", exclude=["2026-03-29"])
        found = await env.client.list_schedules()
        assert [each.id for each in found] == ["a", "b"]
        assert found[1].coming[0] == datetime(2026, 3, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cron": "nonsense"}, "five fields"),
        ({"cron": "61 * * * *"}, "Bad minute"),
        ({"cron": "0 0 30 2 *"}, "Bad day"),
        ({"cron": "0 3 * * *", "timezone": "Europe/Rom"}, "unknown time zone 'Europe/Rom'"),
        ({"cron": "0 3 * * *", "timezone": "../etc/passwd"}, "unknown time zone"),
        ({"cron": "0 3 * * *", "every": "1h"}, "either cron or every"),
        ({}, "either cron or every"),
        ({"every": "0s"}, "every must be positive"),
        ({"every": "-1s"}, "every"),
        ({"every": "36525 days"}, "between 1 second and 10 years"),
        ({"every": "10ms"}, "between 1 second and 10 years"),
        ({"every": "1h", "jitter": "2h"}, "not shorter than the interval"),
        ({"cron": "*/5 * * * *", "jitter": "5m"}, "not shorter than the interval"),
        ({"every": "1h", "overlap": "sometimes"}, "must be one of skip, queue"),
        ({"every": "1h", "exclude": ["Christmas"]}, "cannot read the day"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    async def test() -> None:
        async with environment() as env:
            with pytest.raises(UsageError, match=said):
                await env.client.schedule("s", report, **options)
            with pytest.raises(errors.PayloadError):
                await env.client.schedule("s", report, 7, every="1h")
            assert await env.client.list_schedules() == []

    asyncio.run(test())


@on_a_loop
async def test_times_that_passed_are_caught_up_within_the_window() -> None:
    async with environment() as env:
        schedule = await env.client.schedule("s", report, every="1h", catch_up="150m", overlap="all")
        env._time.at += 10 * 3_600_000_000
        await env.settle()
        found = (await schedule.describe()).state
        assert [each.due.hour for each in found.recent] == [20, 21, 22]
        assert (found.missed, found.started) == (7, 3)
