"""Orders in a closed loop: client, engine, steps and worker in this process, on a SQLite file.

usage: python -m bench.orders steps|inline|activities N C [URL]
    N orders, C in flight; prints a line of JSON
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from typing import Any

from bench.closed_loop import measured
from bench.workflows import ActivitiesOrder, InlineOrder, StepsOrder
from perdure.client import Client
from perdure.embedded import Platform
from perdure.registry import Registry

RUNS: dict[str, Any] = {
    "steps": StepsOrder.process,
    "inline": InlineOrder.process,
    "activities": ActivitiesOrder.process,
}


async def measure(client: Client, kind: str, orders: int, in_flight: int, tag: str) -> dict[str, object]:
    return await measured(
        "perdure", kind, orders, in_flight, lambda item: client.execute(f"{tag}-{item}", RUNS[kind], item)
    )


async def run(kind: str, orders: int, in_flight: int, url: str) -> dict[str, object]:
    with Platform(Registry.of_everything_imported(), url) as platform:
        client = platform.client()
        await measure(client, kind, min(orders, 200), in_flight, "warm")
        result = await measure(client, kind, orders, in_flight, "order")
        await client.close()
    return result


def main() -> None:
    kind, orders, in_flight = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with tempfile.TemporaryDirectory() as folder:
        url = sys.argv[4] if len(sys.argv) > 4 else f"sqlite:///{folder}/bench.db"
        print(json.dumps(asyncio.run(run(kind, orders, in_flight, url))))


if __name__ == "__main__":
    main()
