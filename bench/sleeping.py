"""Runs that sleep: bytes on disk, memory once evicted, and how long a restart takes to serve.

usage: python -m bench.sleeping [RUNS]    prints a line of JSON
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.workflows import Sleeper, StepsOrder
from perdure.embedded import Platform
from perdure.engine.processor import Settings
from perdure.registry import Registry

CACHED = 1_000


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def fill(url: str, runs: int) -> dict[str, object]:
    """Start the runs; memory before the second half and after it tells what one costs while it
    sleeps."""
    with Platform(Registry.of_everything_imported(), url, settings=Settings(cached_runs=CACHED)) as platform:
        client = platform.client()
        todo = iter(range(runs))

        async def customer() -> None:
            for item in todo:
                await client.start(f"sleeper-{item}", Sleeper.process, item)
                if item == runs // 2:
                    marks.append(rss_bytes())

        marks: list[int] = []
        begun = time.perf_counter()
        await asyncio.gather(*[customer() for _ in range(256)])
        elapsed = time.perf_counter() - begun
        grown = rss_bytes() - marks[0]
        await client.close()
    return {
        "starts_per_s": round(runs / elapsed),
        "ram_bytes_per_sleeping_run": max(0, round(grown / (runs - runs // 2))),
    }


async def restart(url: str) -> dict[str, object]:
    begun = time.perf_counter()
    with Platform(Registry.of_everything_imported(), url) as platform:
        client = platform.client()
        assert len(await client.execute("first", StepsOrder.process, 1)) == 3
        served = time.perf_counter() - begun
        await client.close()
    return {"restart_to_first_order_s": round(served, 3), "rss_after_restart_mb": round(rss_bytes() / 1e6, 1)}


def main() -> None:
    if sys.argv[1:2] == ["restart"]:
        print(json.dumps(asyncio.run(restart(sys.argv[2]))))
        return
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/bench.db"
        figures = asyncio.run(fill(url, runs))
        size = sum(file.stat().st_size for file in Path(folder).glob("bench.db"))
        fresh = subprocess.run(
            [sys.executable, "-m", "bench.sleeping", "restart", url],
            check=True,
            capture_output=True,
            text=True,
        )
        print(
            json.dumps(
                {
                    "system": "perdure",
                    "sleeping_runs": runs,
                    "bytes_per_sleeping_run": round(size / runs),
                    **figures,
                    **json.loads(fresh.stdout),
                }
            )
        )


if __name__ == "__main__":
    main()
