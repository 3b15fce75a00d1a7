"""The same order on DBOS with SQLite: three steps, in one process with the load.

usage: python bench/peers/dbos_orders.py N C FILE    prints a line of JSON
"""

import asyncio
import json
import sys
import time

from dbos import DBOS

orders, in_flight, file = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{file}", "log_level": "ERROR"})


@DBOS.step()
async def reserve(item: int) -> str:
    return "reserved"


@DBOS.step()
async def charge(item: int) -> str:
    return "charged"


@DBOS.step()
async def send(item: int) -> str:
    return "sent"


@DBOS.workflow()
async def order(item: int) -> list[str]:
    return [await reserve(item), await charge(item), await send(item)]


async def main() -> None:
    latencies: list[float] = []
    todo = iter(range(orders))

    async def customer() -> None:
        for item in todo:
            begun = time.perf_counter()
            handle = await DBOS.start_workflow_async(order, item)
            assert len(await handle.get_result()) == 3
            latencies.append((time.perf_counter() - begun) * 1e3)

    begun = time.perf_counter()
    await asyncio.gather(*[customer() for _ in range(in_flight)])
    elapsed = time.perf_counter() - begun
    latencies.sort()
    figures = {"system": "dbos-sqlite", "kind": "steps", "in_flight": in_flight, "orders": orders}
    figures |= {"orders_per_s": round(orders / elapsed), "p50_ms": round(latencies[orders // 2], 2)}
    print(json.dumps(figures | {"p99_ms": round(latencies[int(orders * 0.99)], 2)}))


DBOS.launch()
asyncio.run(main())
DBOS.destroy()
