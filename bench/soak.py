"""A file under constant load and a short retention: whether it reaches a size that it keeps.

usage: python -m bench.soak [SECONDS=180] [RETENTION=10s]    prints a line of JSON
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from bench.workflows import StepsOrder
from perdure.embedded import Platform
from perdure.engine.processor import Settings
from perdure.model.duration import microseconds
from perdure.model.retention import Retention
from perdure.registry import Registry

IN_FLIGHT = 16
SAMPLES = 12


def size_mb(path: Path) -> float:
    return round(path.stat().st_size / 1e6, 2)


async def soak(path: Path, seconds: float, retention: str) -> dict[str, object]:
    """Run orders for some seconds; the size of the file in MB after each twelfth of them."""
    settings = Settings(retention=Retention(retention))
    registry = Registry.of_everything_imported()
    sizes: list[float] = []
    orders = 0
    with Platform(registry, f"sqlite:///{path}", settings=settings) as platform:
        client = platform.client()
        until = time.monotonic() + seconds

        async def customer(number: int) -> None:
            nonlocal orders
            while time.monotonic() < until:
                # no wait for the result: the run may be gone before the client asks for it
                await client.start(f"order-{number}-{orders}", StepsOrder.process, orders)
                orders += 1

        async def measure() -> None:
            for _ in range(SAMPLES):
                await asyncio.sleep(seconds / SAMPLES)
                sizes.append(size_mb(path))

        await asyncio.gather(measure(), *(customer(number) for number in range(IN_FLIGHT)))
        await client.close()
        removed = platform.engine.counts.removed
    return {
        "bench": "soak",
        "orders": orders,
        "removed": removed,
        "retention_s": microseconds(retention) / 1e6,
        "file_mb": sizes,
    }


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 180.0
    retention = sys.argv[2] if len(sys.argv) > 2 else "10s"
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(soak(Path(folder) / "soak.db", seconds, retention))))


if __name__ == "__main__":
    main()
