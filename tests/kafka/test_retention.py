"""Retention on Kafka and PostgreSQL: a closed run that is due leaves topics, stores and tables."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from psycopg.errors import UndefinedTable

from perdure import workflow
from perdure.adapters.postgres.database import Database
from perdure.client import Client
from perdure.distributed import EngineOptions, KafkaPlatform, Place, WorkerOptions
from perdure.engine.processor import Settings
from perdure.model.retention import KEEP, Retention
from perdure.registry import Registry
from tests.kafka.namespace import Namespace, wait_until
from tests.kafka.test_projector import projector
from tests.postgres.tables import rows

RUNS = 30
AT_ONCE = Retention("1ms")


@workflow.defn(name="retention_order")
async def order(number: int) -> int:
    await workflow.sleep("1ms")
    return number


@workflow.defn(name="retention_kept", retention=None)
async def kept(number: int) -> int:
    return number


REGISTRY = Registry.of([order, kept], [])


def left(namespace: Namespace, topic: str) -> set[str]:
    """The workflow ids whose records a compaction would leave."""
    last: dict[str, bool] = {}
    for record in namespace.read(topic):
        last[(record.key() or b"").decode()] = record.value() is not None
    return {key.partition("/")[0] for key, is_there in last.items() if is_there}


def is_left(namespace: Namespace, topic: str, ids: set[str]) -> bool:
    return left(namespace, topic) == ids


def is_in_tables(database: Database, table: str, ids: set[str]) -> bool:
    try:
        found = rows(database, f"SELECT DISTINCT workflow_id FROM {{s}}.{table}")
    except UndefinedTable:  # the projector has just been started
        return False
    return {workflow_id for (workflow_id,) in found} == ids


def test_runs_that_are_due_leave_everything_and_a_new_engine_does_not_know_them(
    namespace: Namespace, postgres: str, tmp_path: Path
) -> None:
    place = Place(namespace.name, {"bootstrap.servers": namespace.bootstrap})

    def platform(state_dir: str, retention: Retention) -> KafkaPlatform:
        engine = EngineOptions(state_dir=tmp_path / state_dir, settings=Settings(retention=retention))
        return KafkaPlatform(REGISTRY, place, engine=engine, worker=WorkerOptions())

    async def run(*ids: str) -> None:
        async with (
            Client.connect(f"kafka://{namespace.bootstrap}/{namespace.name}") as client,
            asyncio.timeout(90),
        ):
            await asyncio.gather(*(client.execute(each, order, number) for number, each in enumerate(ids)))
            await client.options(if_closed="start").execute("kept", kept, 7)

    async def delete(*ids: str) -> None:
        async with (
            Client.connect(f"kafka://{namespace.bootstrap}/{namespace.name}") as client,
            asyncio.timeout(90),
        ):
            for each in ids:
                await client.get_by_name(each).delete("they asked")

    database = Database(postgres, namespace.name)
    with projector(namespace, postgres):
        with platform("one", KEEP):
            asyncio.run(run(*(f"order-{number}" for number in range(RUNS))))
        for state_dir in ("one", "fresh"):
            with platform(state_dir, AT_ONCE):
                for topic in ("events", "state"):
                    wait_until(partial(is_left, namespace, topic, {"kept"}))
        for table in ("workflows", "events"):
            wait_until(partial(is_in_tables, database, table, {"kept"}))
        with platform("another", KEEP):
            asyncio.run(run("order-0"))
            assert left(namespace, "state") == {"kept", "order-0"}
            asyncio.run(delete("order-0", "kept"))
            for topic in ("events", "state"):
                wait_until(partial(is_left, namespace, topic, set[str]()))
        for table in ("workflows", "events"):
            wait_until(partial(is_in_tables, database, table, set[str]()))
