"""Orders in a closed loop against engines and workers that run already, on Kafka.

usage: python -m bench.kafka_load URL steps|activities N C    prints a line of JSON
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from bench.orders import measure
from perdure.client import Client


async def run(url: str, kind: str, orders: int, in_flight: int) -> dict[str, object]:
    async with Client.connect(url) as client:
        tag = os.urandom(4).hex()
        await measure(client, kind, max(20, min(orders // 10, 500)), in_flight, f"warm-{tag}")
        return await measure(client, kind, orders, in_flight, tag)


def main() -> None:
    url, kind, orders, in_flight = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    print(json.dumps(asyncio.run(run(url, kind, orders, in_flight))))


if __name__ == "__main__":
    main()
