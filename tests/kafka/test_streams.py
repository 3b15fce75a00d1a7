"""Streams on a real broker: written in the engine's transactions, read by a client."""

from __future__ import annotations

import asyncio
from pathlib import Path

from perdure import activity, workflow
from perdure.client import Client
from perdure.distributed import EngineOptions, KafkaPlatform, Place, WorkerOptions
from perdure.registry import Registry
from tests.kafka.namespace import Namespace


@activity.defn
async def think(count: int) -> int:
    out = activity.stream("numbers", int)
    for number in range(count):
        out.write(number)
        if number % 100 == 0:
            await asyncio.sleep(0.01)
    return count


@workflow.defn
async def chat(count: int) -> int:
    out = workflow.stream("words", str)
    out.write("begun")
    await think(count)
    out.write("ended")
    return count


def test_a_client_reads_what_runs_write_and_nothing_of_others(namespace: Namespace, tmp_path: Path) -> None:
    registry = Registry.of([chat], [think])
    place = Place(namespace.name, {"bootstrap.servers": namespace.bootstrap})

    async def main() -> None:
        async with (
            Client.connect(f"kafka://{namespace.bootstrap}/{namespace.name}") as client,
            asyncio.timeout(90),
        ):
            runs = [await client.start(f"c-{number}", chat, 300) for number in range(3)]
            for run in runs:
                assert [each async for each in run.stream("numbers", int)] == list(range(300))
                reader = run.stream("words", str)
                assert [each async for each in reader] == ["begun", "ended"]
                later = run.stream("numbers", int, after=reader.offset - 1)
                assert [each async for each in later] == []
                again = run.stream("words", str, after=reader.offset - 1)
                assert [each async for each in again] == ["ended"]

    with KafkaPlatform(registry, place, engine=EngineOptions(state_dir=tmp_path), worker=WorkerOptions()):
        asyncio.run(main())
