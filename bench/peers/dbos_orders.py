"""The same order on DBOS with SQLite: three steps, in one process with the load.

usage: python -m bench.peers.dbos_orders N C FILE    prints a line of JSON
"""

import asyncio
import json
import sys

from dbos import DBOS

from bench.closed_loop import measured

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


async def ordered(item: int) -> list[str]:
    return await (await DBOS.start_workflow_async(order, item)).get_result()


DBOS.launch()
print(json.dumps(asyncio.run(measured("dbos-sqlite", "steps", orders, in_flight, ordered))))
DBOS.destroy()
