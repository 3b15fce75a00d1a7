"""What the capabilities of workflows cost beside the plain thing, in one run: children beside
activities, an update beside a signal and a query, inline steps beside registered ones; one run with
10,000 children and one with 10,000 activities; an answer over HTTP. Prints JSON.

On a file, client, engine, steps and worker are in this process; answers over HTTP go to a
`perdure dev`. With --kafka, an engine and a worker run on a broker, at BOOTSTRAP or one of its own,
as `bench.kafka` has them, and only children and updates are measured. The two sides of a ratio take
turns, round by round; a figure is the median of its rounds.

usage: [BOOTSTRAP=host:port] python -m bench.capabilities [--kafka] [--rounds 3] [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

from bench.capability_workflows import (
    Register,
    many_activities,
    many_children,
    order_of_activities,
    order_of_children,
)
from bench.closed_loop import measured
from bench.http import BIN, Connection, port_of, started
from bench.workflows import InlineOrder, StepsOrder
from perdure.client import Client
from perdure.embedded import Platform
from perdure.engine.counts import TIMES_US, Buckets
from perdure.registry import Registry

IN_FLIGHT = 64
WIDTH = 10_000
APP = Path(__file__).parent / "capability_workflows.py"


class Longest(Buckets):
    """Batches by their time, and the longest."""

    def __init__(self) -> None:
        super().__init__(TIMES_US)
        self.longest = 0

    def add(self, value: int) -> None:
        super().add(value)
        self.longest = max(self.longest, value)


async def orders_per_s(client: Client, run: Any, orders: int, tag: str) -> float:
    figures = await measured(
        "perdure", tag, orders, IN_FLIGHT, lambda item: client.execute(f"{tag}-{item}", run, item)
    )
    return float(str(figures["orders_per_s"]))


async def p50_ms(ask: Callable[[int], Awaitable[object]], times: int) -> float:
    latencies: list[float] = []
    for number in range(times):
        begun = time.perf_counter()
        await ask(number)
        latencies.append((time.perf_counter() - begun) * 1e3)
    return round(median(latencies), 2)


async def ratios(client: Client, rounds: int, share: int, *, has_inline: bool) -> dict[str, Any]:
    """Both sides of each ratio, in turns."""
    figures: dict[str, list[float]] = defaultdict(list)
    sides: list[tuple[str, Any, int]] = [
        ("three_children", order_of_children, 400),
        ("three_activities", order_of_activities, 1_500),
    ]
    if has_inline:
        sides += [("three_inline_steps", InlineOrder.process, 4_000)]
        sides += [("three_registered_steps", StepsOrder.process, 4_000)]
    tag = f"{time.time_ns():x}"
    register = await client.start(f"register-{tag}", Register.process)

    async def signal_and_query(number: int) -> None:
        await register.signal(Register.add, 1)
        await register.query(Register.read)

    async def update(number: int) -> None:
        await register.update(Register.add_and_read, 1)

    for number in range(rounds + 1):  # the first one warms up
        for name, run, orders in sides:
            count = orders // share if number else 100
            figures[name].append(await orders_per_s(client, run, count, f"{tag}-{number}-{name}"))
        figures["signal_and_query_ms"].append(await p50_ms(signal_and_query, 200 // share))
        figures["update_ms"].append(await p50_ms(update, 200 // share))
    medians = {name: round(median(values[1:]), 2) for name, values in figures.items()}
    found: dict[str, Any] = {
        **medians,
        "children_to_activities": round(medians["three_children"] / medians["three_activities"], 2),
        "update_to_signal_and_query": round(medians["update_ms"] / medians["signal_and_query_ms"], 2),
    }
    if has_inline:
        ratio = medians["three_inline_steps"] / medians["three_registered_steps"]
        found["inline_to_registered"] = round(ratio, 2)
    return found


async def wide(platform: Platform, client: Client, share: int) -> dict[str, Any]:
    """One run with many children, and one with many activities."""
    found: dict[str, Any] = {}
    for name, run in (("children", many_children), ("activities", many_activities)):
        batches = platform.engine.counts.batch_us = Longest()
        begun = time.perf_counter()
        assert await client.execute(f"many-{name}", run, WIDTH // share) == WIDTH // share
        found[f"{WIDTH // share}_{name}_s"] = round(time.perf_counter() - begun, 2)
        found[f"{WIDTH // share}_{name}_longest_batch_ms"] = round(batches.longest / 1e3, 1)
    return found


async def answered_ms(folder: str, share: int) -> float:
    """From the request to its answer, which comes when the run has continued."""
    address = f"sqlite:///{folder}/answers.db"
    command = [str(BIN / "perdure"), "dev", str(APP), "--db", address, "--no-reload", "--api-port", "0"]
    with started(command) as process:
        connection = await Connection.open(port_of(process))
        times = 500 // share
        body = json.dumps({"type": "Waiting", "id": "w", "args": [times]}).encode()
        status, answer = await connection.ask("POST", "/workflows", body)
        assert status == 201, answer

        async def view() -> tuple[str, int]:
            _, answer = await connection.ask("GET", "/workflows/w/view")
            text, answers = json.loads(answer)
            return str(text), int(answers)

        latencies: list[float] = []
        for number in range(times):
            text, answers = await view()
            assert answers == number
            begun = time.perf_counter()
            status, answer = await connection.ask("POST", f"/tokens/{text}", b"1")
            latencies.append((time.perf_counter() - begun) * 1e3)
            assert status in {200, 202}, answer
        return round(median(latencies), 2)


async def on_a_file(rounds: int, share: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        answered = await answered_ms(folder, share)
        with Platform(Registry.of_everything_imported(), f"sqlite:///{folder}/bench.db") as platform:
            client = platform.client()
            found = await ratios(client, rounds, share, has_inline=True)
            found |= await wide(platform, client, share)
            await client.close()
    return {"on": "a file", **found, "token_over_http_p50_ms": answered}


async def on_kafka(url: str, rounds: int, share: int) -> dict[str, Any]:
    async with Client.connect(url) as client:
        return {"on": "Kafka", **await ratios(client, rounds, share, has_inline=False)}


def main() -> None:
    parser = argparse.ArgumentParser(description="What capabilities cost.")
    parser.add_argument("--kafka", action="store_true", help="on a broker, not on a file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a quarter of everything, one round")
    options = parser.parse_args()
    share, rounds = (4, 1) if options.quick else (1, options.rounds)
    if options.kafka:
        from bench.kafka import a_broker, namespace

        with a_broker() as bootstrap, namespace(bootstrap, 4, APP) as url:
            figures = asyncio.run(on_kafka(url, rounds, share))
    else:
        figures = asyncio.run(on_a_file(rounds, share))
    print("  ".join(f"{name}={value}" for name, value in figures.items()), file=sys.stderr)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
