"""Schedules on a file: how late a thousand start that are due in one second, and what one that
sleeps costs in memory; and jobs beside workflows of one activity.

usage: python -m bench.schedules [SLEEPING [URL]]    prints a line of JSON; with the URL of a
platform that serves this file, such as kafka://127.0.0.1:9092/bench, only jobs and workflows
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial

from bench.sleeping import CACHED, rss_bytes
from perdure import activity, workflow
from perdure.builtin.schedule_times import Spec
from perdure.client import Client
from perdure.embedded import Platform
from perdure.engine.processor import Settings
from perdure.registry import Registry

DUE = 1_000
JOBS = 3_000


@activity.defn
async def note(number: int) -> int:
    return number


@workflow.defn
async def noted(number: int) -> int:
    return await note(number)


async def each(count: int, call: Callable[[int], Awaitable[object]], in_flight: int = 256) -> float:
    """Calls for each number; the seconds that all of them took."""
    todo = iter(range(count))

    async def caller() -> None:
        for number in todo:
            await call(number)

    begun = time.perf_counter()
    await asyncio.gather(*[caller() for _ in range(in_flight)])
    return time.perf_counter() - begun


async def due(client: Client) -> dict[str, object]:
    """Every schedule has the same second; how long after it the last run was started."""
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=20)
    at = at.replace(second=0) + timedelta(minutes=1)
    cron = f"{at.minute} {at.hour} * * *"

    async def create(number: int) -> None:
        await client.create_schedule(f"due-{number}", Spec("noted", [number], cron=cron))

    await each(DUE, create)
    assert datetime.now(UTC) < at, "the machine was too slow to create them in time"
    while sum((await client.counts(type="noted")).values()) < DUE:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    begun = [each.started_at for each in await client.list(type="noted", limit=DUE)]
    late = sorted(started / 1e6 - at.timestamp() for started in begun)
    return {
        "due_in_one_second": DUE,
        "last_started_after_s": round(late[-1], 2),
        "median_after_s": round(late[DUE // 2], 2),
    }


async def sleeping(url: str, count: int) -> dict[str, object]:
    marks: list[int] = []
    with Platform(Registry.of_everything_imported(), url, settings=Settings(cached_runs=CACHED)) as platform:
        client = platform.client()
        spec = Spec("noted", [1], cron="0 3 1 1 *")

        async def create(number: int) -> None:
            await client.create_schedule(f"sleeping-{number}", spec)
            if number == count // 2:
                marks.append(rss_bytes())

        elapsed = await each(count, create)
        grown = rss_bytes() - marks[0]
        await client.close()
    return {
        "sleeping": count,
        "created_per_s": round(count / elapsed),
        "ram_bytes_per_sleeping_schedule": max(0, round(grown / (count - count // 2))),
    }


async def execute(client: Client, prefix: str, number: int) -> int:
    return await client.execute(f"{prefix}-{number}", noted, number)


async def jobs(client: Client) -> dict[str, object]:
    """Jobs and workflows of one activity in turns, since the machine is not always as fast."""
    found: dict[str, list[float]] = {"jobs": [], "workflows": []}
    for turn in range(4):
        found["jobs"].append(JOBS / await each(JOBS, lambda number: client.run(note, number)))
        start = partial(execute, client, f"w-{time.time_ns()}-{turn}")
        found["workflows"].append(JOBS / await each(JOBS, start))
    best = {name: max(rates[1:]) for name, rates in found.items()}
    return {
        "jobs_per_s": round(best["jobs"]),
        "workflows_per_s": round(best["workflows"]),
        "ratio": round(best["jobs"] / best["workflows"], 2),
    }


async def on(url: str) -> dict[str, object]:
    with Platform(Registry.of_everything_imported(), url) as platform:
        client = platform.client()
        figures = {**await jobs(client), **await due(client)}
        await client.close()
    return figures


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    if len(sys.argv) > 2:  # a platform of its own, such as kafka://127.0.0.1:9092/bench
        print(json.dumps(asyncio.run(remote(sys.argv[2]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(on(f"sqlite:///{folder}/due.db"))
        figures |= asyncio.run(sleeping(f"sqlite:///{folder}/sleeping.db", count))
    print(json.dumps({"system": "perdure", **figures}))


async def remote(url: str) -> dict[str, object]:
    async with Client.connect(url) as client:
        return await jobs(client)


if __name__ == "__main__":
    main()
