"""Activities at most once, on the platforms of one process."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from perdure import activity, testing, workflow
from perdure.embedded import Platform
from perdure.errors import OutcomeUnknown
from perdure.registry import Registry

RAN: Counter[str] = Counter()


@activity.defn(at_most_once=True)
async def pay(order: str) -> int:
    RAN[order] += 1
    return 5


@activity.defn(at_most_once=True, timeout="1 hour")
async def hang(order: str) -> int:
    RAN[order] += 1
    await asyncio.Event().wait()
    return 5


@workflow.defn
async def paid(order: str) -> str:
    first = await pay(order)
    try:
        await hang(f"{order} hangs")
    except OutcomeUnknown as unknown:
        return f"{first}, {unknown}"
    return "it has ended"


@workflow.defn
async def paid_only(order: str) -> int:
    return await pay(order)


REGISTRY = Registry.of([paid, paid_only], [pay, hang])


def test_in_the_test_environment_time_is_skipped_and_nothing_runs_twice() -> None:
    async def main() -> None:
        async with testing.Environment(REGISTRY) as env:
            RAN.clear()
            run = await env.client.start("p", paid, "order")
            await env.sleep("2 hours")
            assert "it may have taken effect" in await run.result()
            assert RAN == {"order": 1, "order hangs": 1}

    asyncio.run(main())


@pytest.mark.parametrize("where", ["memory", "file"])
def test_on_one_machine_it_runs_once(where: str, tmp_path: Path) -> None:
    async def main(platform: Platform) -> None:
        RAN.clear()
        assert await platform.client().execute("p", paid_only, "order") == 5
        assert RAN == {"order": 1}

    with Platform(REGISTRY, "memory://" if where == "memory" else f"sqlite:///{tmp_path}/app.db") as platform:
        asyncio.run(main(platform))
