"""Activities at most once on a real broker: a worker that is killed while they run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from perdure.client import Client
from tests.kafka.apps import once
from tests.kafka.namespace import Namespace, wait_until
from tests.kafka.processes import engine, worker

APP: Final = "tests/kafka/apps/once.py"
NAMES: Final = ("blind", "seen")


def test_what_a_killed_worker_had_begun_is_not_begun_again(namespace: Namespace, tmp_path: Path) -> None:
    def count() -> dict[str, int]:
        return {name: once.effects(tmp_path / name) for name in NAMES}

    async def start() -> None:
        async with (
            Client.connect(f"kafka://{namespace.bootstrap}/{namespace.name}") as client,
            asyncio.timeout(90),
        ):
            await client.start("p", once.pay, str(tmp_path))

    async def end() -> list[str]:
        async with (
            Client.connect(f"kafka://{namespace.bootstrap}/{namespace.name}") as client,
            asyncio.timeout(90),
        ):
            return await client.get("p", once.pay).result()

    with engine(APP, namespace, tmp_path / "state"):
        with worker(APP, namespace):
            asyncio.run(start())
            wait_until(lambda: count() == dict.fromkeys(NAMES, 1), 60)
        with worker(APP, namespace):
            assert asyncio.run(end()) == ["unknown", "seen was found"]
    assert count() == dict.fromkeys(NAMES, 1)
