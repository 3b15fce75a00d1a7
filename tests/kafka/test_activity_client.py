"""`activity.client()` on a real broker, in a worker without an engine."""

from __future__ import annotations

import asyncio
from pathlib import Path

from perdure.client import Client
from perdure.distributed import EngineOptions, KafkaPlatform, Place, WorkerOptions
from tests.integration.test_activity_client import EXPECTED, REGISTRY, Orders
from tests.kafka.namespace import Namespace


def test_activities_and_steps_have_a_client(namespace: Namespace, tmp_path: Path) -> None:
    place = Place(namespace.name, {"bootstrap.servers": namespace.bootstrap})

    async def main() -> list[str]:
        async with (
            Client.connect(f"kafka://{namespace.bootstrap}/{namespace.name}") as client,
            asyncio.timeout(120),
        ):
            return await client.execute("o", Orders.process, "o")

    with (
        KafkaPlatform(REGISTRY, place, engine=EngineOptions(state_dir=tmp_path)),
        KafkaPlatform(REGISTRY, place, worker=WorkerOptions()),
    ):
        assert asyncio.run(main()) == EXPECTED
