"""What `perdure projector` does: events a second of a backlog, and how late a write is seen at 300
orders a second. Prints JSON.

usage: python -m bench.project [--orders 25000] [--in-flight 256] [--rounds 3]
    POSTGRES=DSN and BOOTSTRAP=… for servers that run
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import psycopg
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from perdure.adapters.kafka.clients.end_offsets import Ends
from perdure.adapters.kafka.clients.plain import PlainClients
from perdure.adapters.kafka.namespace.partitioner import partition_of
from perdure.adapters.postgres.database import Database
from perdure.adapters.postgres.reader import PostgresReader
from perdure.client.position import Position
from perdure.codec.avro import EVENTS, STATE
from perdure.model import events as ev
from perdure.model.options import ActivityOptions
from perdure.model.states import Status, WorkflowState
from tests.kafka.broker import STEADY, running
from tests.postgres.server import DURABLE
from tests.postgres.server import running as running_postgres

PARTITIONS = 4
TURNS_PER_S, WARM_S = 25, 2
START_US = 1_790_000_000_000_000


def story(orders: int, in_flight: int) -> Iterator[tuple[ev.EventRecord, WorkflowState]]:
    """An order has three activities: nine events in four records, and four states."""
    for group in range(0, orders, in_flight):
        for step in range(4):
            for number in range(group, min(group + in_flight, orders)):
                yield record(number, step)


def record(number: int, step: int) -> tuple[ev.EventRecord, WorkflowState]:
    workflow_id, at = f"order-{number:08}", START_US + number * 1_000 + step * 50_000
    run_id = f"{(START_US + number) // 1000:012x}{number:014x}"
    events: list[ev.AnyEvent]
    first = 1 + 2 * step
    if step == 0:
        events = [ev.WorkflowStarted("Order", b'["burrata"]', 311, 7 * number, f"r-{number}"), scheduled(1)]
    elif step < 3:
        events = [ev.ActivityCompleted(step, b'{"receipt":"r-123456","cents":4200}'), scheduled(step + 1)]
    else:
        events = [ev.ActivityCompleted(3, b"null"), ev.TimerStarted(1, at), ev.WorkflowCompleted(b'"done"')]
    status = Status.COMPLETED if step == 3 else Status.RUNNING
    view = (
        b'{"state":"%s","product":"burrata","cents":4200,"eta":"2026-11-26T18:00:00Z"}'
        % (b"charging", b"paid", b"cooking", b"done")[step]
    )
    state = WorkflowState(
        workflow_id, run_id, "Order", status, START_US + number * 1_000, at, at if step == 3 else 0,
        first + len(events) - 1, view,
        b'{"city":"Bari","customer":%d}' % (number % 1000),
    )  # fmt: skip
    return ev.EventRecord(
        workflow_id, run_id, first, at, 0, number, os.urandom(16) if step else b"", events
    ), state


def scheduled(number: int) -> ev.ActivityScheduled:
    return ev.ActivityScheduled(
        number, "charge", b'["order-00000001",4200]', ActivityOptions(), os.urandom(8).hex()
    )


def fill(bootstrap: str, namespace: str, orders: int, in_flight: int) -> int:
    """The topics of a namespace; how many events they hold."""
    admin: Any = AdminClient({"bootstrap.servers": bootstrap})
    names = {f"{namespace}.{part}": PARTITIONS for part in ("events", "state")} | {f"{namespace}.meta": 1}
    for made in admin.create_topics([NewTopic(name, count) for name, count in names.items()]).values():
        made.result(30)
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "transactional.id": namespace,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    producer.init_transactions(30)
    count = 0
    producer.begin_transaction()
    for number, (written, state) in enumerate(story(orders, in_flight)):
        partition = partition_of(written.workflow_id.encode(), PARTITIONS)
        put(producer, namespace, written, state, partition)
        count += len(written.events)
        if number % 500 == 499:
            producer.commit_transaction(60)
            producer.begin_transaction()
    producer.commit_transaction(60)
    return count


def project(bootstrap: str, namespace: str, dsn: str, events: int, records: int) -> dict[str, Any]:
    command = ["projector", "--kafka", bootstrap, "--namespace", namespace, "--postgres", dsn]
    process = subprocess.Popen([sys.executable, "-m", "perdure.cli", *command], stdout=subprocess.DEVNULL)
    count, begun = 0, 0.0
    try:
        with psycopg.connect(dsn, autocommit=True) as connection:
            deadline = time.monotonic() + 300
            while count < events:
                assert process.poll() is None
                assert time.monotonic() < deadline, count
                time.sleep(0.02)
                with contextlib.suppress(psycopg.errors.UndefinedTable):
                    least, most = read_to(connection, namespace)
                    begun = begun or (time.perf_counter() if most else 0.0)
                    if least >= records:  # counting costs more than asking for positions
                        found = connection.execute(
                            f'SELECT count(*) FROM "{namespace}".events'.encode()
                        ).fetchone()
                        count = int(found[0]) if found else 0
            elapsed = time.perf_counter() - begun
            cpu = cpu_of(process.pid)
        return {
            "events_per_s": round(events / elapsed),
            "elapsed_s": round(elapsed, 2),
            "cpu_us_per_event": round(cpu / events * 1e6, 1),
        }
    finally:
        process.terminate()
        process.wait(20)


def lag(bootstrap: str, dsn: str, orders_per_s: int, seconds: float) -> dict[str, Any]:
    """From the commit of a transaction until the tables reflect it, while others continue; the
    first two seconds are the broker's to warm up."""
    namespace = f"bench{time.time_ns()}"
    fill(bootstrap, namespace, 0, 1)
    clients = PlainClients(namespace, "bench", {"bootstrap.servers": bootstrap})
    ends = Ends(clients, f"{namespace}.events", lambda _: None)
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "transactional.id": namespace,
            "retry.backoff.ms": 1,
            "retry.backoff.max.ms": 5,
        }
    )
    producer.init_transactions(30)
    late: list[float] = []

    def watch(position: Position, committed_at: float) -> None:
        assert reader.wait_for(position, 30)
        late.append((time.perf_counter() - committed_at) * 1e3)

    command = ["projector", "--kafka", bootstrap, "--namespace", namespace, "--postgres", dsn]
    process = subprocess.Popen([sys.executable, "-m", "perdure.cli", *command], stdout=subprocess.DEVNULL)
    reader = PostgresReader(Database(dsn, namespace))
    try:
        with psycopg.connect(dsn, autocommit=True) as connection:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                with contextlib.suppress(psycopg.errors.UndefinedTable):
                    row = connection.execute(
                        f'SELECT count(*) FROM "{namespace}".positions'.encode()
                    ).fetchone()
                    if row == (2 * PARTITIONS,):
                        break
                time.sleep(0.05)
        burst, begun = max(1, orders_per_s // TURNS_PER_S), time.perf_counter()
        written, turns = (
            story(int(orders_per_s * (WARM_S + seconds)), burst),
            int(TURNS_PER_S * (WARM_S + seconds)),
        )
        with ThreadPoolExecutor(4) as watchers:
            for turn in range(turns):
                time.sleep(max(0.0, begun + turn / TURNS_PER_S - time.perf_counter()))
                producer.begin_transaction()
                partition = 0
                for record_, state in itertools.islice(written, 4 * burst):
                    partition = partition_of(record_.workflow_id.encode(), PARTITIONS)
                    put(producer, namespace, record_, state, partition)
                producer.commit_transaction(60)
                if turn % 3 == 0 and turn >= WARM_S * TURNS_PER_S:
                    watchers.submit(
                        watch, Position(partition, ends.of([partition])[partition]), time.perf_counter()
                    )
            kept = turns * burst / (time.perf_counter() - begun)
    finally:
        process.terminate()
        process.wait(20)
        reader.close()
        ends.close()
    late.sort()
    return {
        "orders_per_s": round(kept),
        "p50_ms": round(late[len(late) // 2], 1),
        "p99_ms": round(late[int(len(late) * 0.99)], 1),
    }


def put(
    producer: Producer, namespace: str, written: ev.EventRecord, state: WorkflowState, partition: int
) -> None:
    key = f"{written.workflow_id}/{written.run_id}/{written.first_event_id}"
    producer.produce(f"{namespace}.events", EVENTS.encode(written), key, partition, headers=[EVENTS.header])
    producer.produce(
        f"{namespace}.state", STATE.encode(state), state.workflow_id, partition, headers=[STATE.header]
    )


def read_to(connection: psycopg.Connection[Any], namespace: str) -> tuple[int, int]:
    """How many records of the topic that is behind, and of the other one."""
    text = f'SELECT sum(next_offset) FROM "{namespace}".positions GROUP BY topic'
    offsets = [int(row[0]) for row in connection.execute(text.encode())]
    return (min(offsets), max(offsets)) if len(offsets) == 2 else (0, 0)


def cpu_of(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - /proc
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", type=int, default=25_000)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="of the measurement of the lag")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        bootstrap = os.environ.get("BOOTSTRAP") or stack.enter_context(running(1, options=STEADY)).bootstrap
        dsn = os.environ.get("POSTGRES") or stack.enter_context(running_postgres(DURABLE)).dsn
        found: list[dict[str, Any]] = []
        events = 0
        for _ in range(options.rounds):
            namespace = f"bench{time.time_ns()}"
            events = fill(bootstrap, namespace, options.orders, options.in_flight)
            found.append(project(bootstrap, namespace, dsn, events, 4 * options.orders))
            print(found[-1], file=sys.stderr)
        late = lag(bootstrap, dsn, 300, options.seconds)
    figures = {name: median(each[name] for each in found) for name in found[0]}
    print(json.dumps({"backlog": {"events": events, "rounds": len(found), **figures}, "lag": late}, indent=2))


if __name__ == "__main__":
    main()
