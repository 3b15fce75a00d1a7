"""A page of the list of 1,000,000 workflows in PostgreSQL, by two filters and a sort, and one state
by its id. Prints JSON.

usage: python -m bench.list [--workflows 1000000] [--queries 200]
    POSTGRES=DSN for a server that runs
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from perdure.adapters.postgres.database import Database
from perdure.adapters.postgres.migrating import migrated
from perdure.adapters.postgres.reader import PostgresReader
from perdure.adapters.postgres.writing import Writer
from perdure.client.listing import ListQuery
from perdure.model.states import Status, WorkflowState
from perdure.ports.projection import ReadRecords
from tests.postgres.server import DURABLE, running

START_US = 1_790_000_000_000_000
MINUTE_US = 60_000_000
TYPES = ("Order", "Refund", "Delivery", "Subscription", "Onboarding", "Invoice", "Payout", "Return")
CITIES = ("Bari", "Roma", "Milano", "Torino", "Napoli", "Lecce", "Genova", "Parma", "Siena", "Pisa")
PAGE = 5_000


def states(count: int, chance: random.Random) -> Iterator[WorkflowState]:
    """Most have completed; a few run, have failed or are suspended."""
    for number in range(count):
        (status,) = chance.choices([*Status], weights=(40, 1, 900, 30, 15, 5, 9))
        started = START_US + number * 1_000_000 + chance.randrange(1_000_000)
        updated = started + chance.randrange(60 * MINUTE_US)
        attributes = b'{"city":"%s","customer":%d}' % (
            chance.choice(CITIES).encode(),
            chance.randrange(20_000),
        )
        yield WorkflowState(
            f"order-{chance.randrange(1 << 40):010x}-{number}",
            f"run-{number:012x}",
            chance.choice(TYPES),
            status,
            started,
            updated,
            updated if status.is_closed else 0,
            9,
            b'{"state":"paid","product":"burrata","cents":4200}',
            attributes,
        )


QUERIES: dict[str, Callable[[random.Random, int], ListQuery]] = {
    "type, status; by start": lambda chance, _: ListQuery(
        types=(chance.choice(TYPES),), statuses=(chance.choice([*Status]),)
    ),
    "type, status; by update": lambda chance, _: ListQuery(
        types=(chance.choice(TYPES),), statuses=(chance.choice([*Status]),), sort="updated_at"
    ),
    "status, since; by end": lambda chance, n: ListQuery(
        statuses=("failed", "cancelled"),
        started_after=START_US + chance.randrange(n) * 1_000_000,
        sort="closed_at",
    ),
    "type, since; oldest first": lambda chance, n: ListQuery(
        types=(chance.choice(TYPES),),
        started_after=START_US + chance.randrange(n) * 1_000_000,
        order="oldest",
    ),
    "type, customer; by start": lambda chance, _: ListQuery(
        types=(chance.choice(TYPES),), attributes=(("customer", chance.randrange(20_000)),)
    ),
    "status, city; by update": lambda chance, _: ListQuery(
        statuses=("running",), attributes=(("city", chance.choice(CITIES)),), sort="updated_at"
    ),
    "type, prefix; by id": lambda chance, _: ListQuery(
        types=(chance.choice(TYPES),),
        id_prefix=f"order-{chance.randrange(256):02x}",
        sort="workflow_id",
        order="oldest",
    ),
    "type; by id": lambda chance, _: ListQuery(
        types=(chance.choice(TYPES),), statuses=("suspended",), sort="workflow_id"
    ),
    "a page in the middle": lambda chance, n: ListQuery(
        types=(chance.choice(TYPES),),
        statuses=("completed",),
        after=(START_US + chance.randrange(n) * 1_000_000, ""),
    ),
}


def fill(database: Database, count: int) -> list[str]:
    """Some of the ids."""
    chance = random.Random(7)
    migrated(database)
    ids: list[str] = []
    with database.connect() as connection:
        writer = Writer(database, connection, "bench")
        writer.claim([("state", 0)])
        page: dict[str, WorkflowState | None] = {}
        for number, state in enumerate(states(count, chance), 1):
            page[state.workflow_id] = state
            if number % PAGE == 0 or number == count:
                ids.append(state.workflow_id)
                writer.write(ReadRecords(page, next_offsets={("state", 0): number}), lambda _: 0)
                page = {}
        connection.execute(database.sql("VACUUM ANALYZE {s}.workflows"))
    return ids


def milliseconds(ask: Callable[[], Any], count: int) -> dict[str, float]:
    times: list[float] = []
    for _ in range(count):
        begun = time.perf_counter()
        ask()
        times.append((time.perf_counter() - begun) * 1e3)
    times.sort()
    return {
        "p50_ms": round(times[count // 2], 2),
        "p95_ms": round(times[int(count * 0.95)], 2),
        "max_ms": round(times[-1], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workflows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        database = Database(
            os.environ.get("POSTGRES") or stack.enter_context(running(DURABLE)).dsn, f"bench{os.getpid()}"
        )
        begun = time.perf_counter()
        ids = fill(database, options.workflows)
        print(f"filled in {time.perf_counter() - begun:.0f} s", file=sys.stderr)
        reader = PostgresReader(database)
        chance = random.Random(11)
        found: dict[str, Any] = {}
        for name, make in QUERIES.items():
            found[name] = milliseconds(
                lambda make=make: reader.list(make(chance, options.workflows)),  # type: ignore[misc]
                options.queries,
            )
            print(name, found[name], file=sys.stderr)
        found["state by id"] = milliseconds(lambda: reader.state(chance.choice(ids)), options.queries)
        found["counts"] = milliseconds(reader.counts, 5)
        reader.close()
    print(json.dumps({"workflows": options.workflows, "queries": options.queries, **found}, indent=2))


if __name__ == "__main__":
    main()
