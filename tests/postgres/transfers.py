"""Workflows that pay by `activity.transaction`. The process may be killed and started again.

usage: python -m tests.postgres.transfers KIND DATABASE FILE COUNT
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import psycopg
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from perdure import activity, workflow
from perdure.embedded import Platform
from perdure.errors import WorkflowAlreadyStarted
from perdure.registry import Registry

EACH = 4
"""Payments of one workflow."""
RETRY = activity.Retry(first_interval="50ms", maximum_interval="1s")


def paying(kind: str, database: str) -> tuple[Any, Registry]:
    """The workflow, and what is served, with this kind of connection."""
    if kind in ("sqlite", "sqlalchemy"):
        engine = (
            create_engine(database)
            if kind == "sqlite"
            else create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(database))
        )

        @activity.transaction(engine, retry=RETRY)
        def pay(connection: Connection, number: int) -> int:
            connection.execute(text("UPDATE paid SET times = times + 1"))
            return number
    elif kind == "sqlalchemy async":

        async def connected() -> psycopg.AsyncConnection[Any]:
            return await psycopg.AsyncConnection.connect(database)

        engine_async = create_async_engine("postgresql+psycopg://", async_creator=connected)

        @activity.transaction(engine_async, retry=RETRY)
        async def pay(connection: AsyncConnection, number: int) -> int:
            await connection.execute(text("UPDATE paid SET times = times + 1"))
            return number
    elif kind == "psycopg":

        @activity.transaction(database, retry=RETRY)
        def pay(connection: psycopg.Connection[Any], number: int) -> int:
            connection.execute("UPDATE paid SET times = times + 1")
            return number
    else:

        @activity.transaction(database, retry=RETRY)
        async def pay(connection: psycopg.AsyncConnection[Any], number: int) -> int:
            await connection.execute("UPDATE paid SET times = times + 1")
            return number

    @workflow.defn(name="Payer")
    async def payer() -> int:
        return sum([await pay(number) for number in range(EACH)])

    return payer, Registry.of([payer], [pay])


async def main(payer: Any, registry: Registry, file: str, count: int) -> None:
    with Platform(registry, f"sqlite:///{file}") as platform:
        client = platform.client().options(if_running="attach", if_closed="refuse")
        print("up", flush=True)

        async def one(number: int) -> None:
            try:
                handle = await client.start(f"p-{number}", payer)
            except WorkflowAlreadyStarted:  # and it has ended
                handle = client.get(f"p-{number}", payer)
            assert await handle.result() == sum(range(EACH))

        await asyncio.gather(*(one(number) for number in range(count)))
    print("done", flush=True)


if __name__ == "__main__":
    kind_, database_, file_, count_ = sys.argv[1:]
    asyncio.run(main(*paying(kind_, database_), file_, int(count_)))
