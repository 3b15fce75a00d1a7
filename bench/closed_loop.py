"""So many customers, each with the next order as soon as the last is done: one measurement for us
and for peers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any


async def measured(
    system: str, kind: str, orders: int, in_flight: int, order: Callable[[int], Awaitable[list[Any]]]
) -> dict[str, object]:
    """Orders a second and latencies.

    Args:
        system: who does it.
        kind: steps or activities.
        orders: how many.
        in_flight: customers.
        order: has one done, by its number; what the three parts of it came to.
    """
    latencies: list[float] = []
    todo = iter(range(orders))

    async def customer() -> None:
        for item in todo:
            begun = time.perf_counter()
            assert len(await order(item)) == 3
            latencies.append((time.perf_counter() - begun) * 1e3)

    begun = time.perf_counter()
    await asyncio.gather(*[customer() for _ in range(in_flight)])
    elapsed = time.perf_counter() - begun
    latencies.sort()
    return {
        "system": system,
        "kind": kind,
        "in_flight": in_flight,
        "orders": orders,
        "orders_per_s": round(orders / elapsed),
        "p50_ms": round(latencies[orders // 2], 2),
        "p99_ms": round(latencies[int(orders * 0.99)], 2),
    }
