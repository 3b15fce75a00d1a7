"""Inline steps on a real broker: an engine that is killed while they run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from perdure.client import Client
from tests.kafka.apps import inline
from tests.kafka.namespace import Namespace, wait_until
from tests.kafka.processes import engine

APP: Final = "tests/kafka/apps/inline.py"
STEPS: Final = ("plain", "blind", "seen")


def test_steps_of_a_killed_engine_run_again_unless_they_may_not(namespace: Namespace, tmp_path: Path) -> None:
    def count() -> dict[str, int]:
        return {name: inline.effects(tmp_path / name) for name in STEPS}

    async def start() -> None:
        async with (
            Client.connect(f"kafka://{namespace.bootstrap}/{namespace.name}") as client,
            asyncio.timeout(90),
        ):
            await client.start("p", inline.pay, str(tmp_path))

    async def end() -> list[str]:
        async with (
            Client.connect(f"kafka://{namespace.bootstrap}/{namespace.name}") as client,
            asyncio.timeout(90),
        ):
            return await client.get("p", inline.pay).result()

    with engine(APP, namespace, tmp_path / "one"):
        asyncio.run(start())
        wait_until(lambda: count() == dict.fromkeys(STEPS, 1), 60)
    with engine(APP, namespace, tmp_path / "two"):  # without the state of the other
        assert asyncio.run(end()) == ["plain", "unknown", "seen was found"]
    assert count() == {"plain": 2, "blind": 1, "seen": 1}
