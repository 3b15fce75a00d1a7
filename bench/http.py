"""What the HTTP API costs: a state by its id, starts, and a thousand readers of server-sent events.
Prints JSON.

The server is a process of its own, `perdure dev` on a file, or `perdure api` on Kafka and
PostgreSQL with an engine, a worker and a projector; the load, over plain sockets, shares the
machine with all of them. Cores and megabytes are those of the API's process, which on a file is the
engine's, too.

usage: python -m bench.http [--seconds 5] [--watchers 1000] [--warm-up S] [--postgres]
    POSTGRES=DSN and BOOTSTRAP=… for servers that run
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

APP = Path(__file__).parent / "workflows.py"
BIN = Path(sys.executable).parent
BASE = "/api/v1"
ORDERING = 16
_callers = itertools.count()


@contextlib.contextmanager
def dev(folder: str, app: str = str(APP)) -> Generator[tuple[int, list[int]]]:
    """`perdure dev` on a file: the port of its API, and the processes whose time counts."""
    command = [
        str(BIN / "perdure"),
        "dev",
        app,
        "--db",
        f"sqlite:///{folder}/bench.db",
        "--no-reload",
        "--api-port",
        "0",
    ]
    with started(command) as process:
        yield port_of(process), [process.pid]


@contextlib.contextmanager
def kafka(folder: str) -> Generator[tuple[int, list[int]]]:
    """Engine, worker, projector and API on Kafka and PostgreSQL."""
    from tests.kafka.broker import STEADY, running
    from tests.postgres.server import DURABLE
    from tests.postgres.server import running as running_postgres

    with contextlib.ExitStack() as stack:
        bootstrap = os.environ.get("BOOTSTRAP") or stack.enter_context(running(1, options=STEADY)).bootstrap
        dsn = os.environ.get("POSTGRES") or stack.enter_context(running_postgres(DURABLE)).dsn
        common = ["--kafka", bootstrap, "--namespace", f"bench{uuid4().hex[:8]}"]
        perdure = str(BIN / "perdure")
        subprocess.run(
            [perdure, "topics", "apply", *common, "--partitions", "4", "--replication", "1"],
            check=True,
            stdout=2,
        )
        for command in (
            [perdure, "engine", str(APP), *common, "--state-dir", f"{folder}/state"],
            [perdure, "worker", str(APP), *common],
            [perdure, "projector", *common, "--postgres", dsn],
        ):
            stack.enter_context(started(command))
        api = stack.enter_context(
            started([perdure, "api", *common, "--postgres", dsn, "--insecure", "--port", "0"])
        )
        yield port_of(api), [api.pid]


@contextlib.contextmanager
def started(command: list[str]) -> Generator[subprocess.Popen[str]]:
    log = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=log)
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        assert process.stdout is not None
        process.stdout.close()


def port_of(process: subprocess.Popen[str]) -> int:
    """Of the API, as the process prints it."""
    assert process.stdout is not None
    for line in process.stdout:
        if "/api/v1" in line:
            return int(line.partition("http://127.0.0.1:")[2].partition("/")[0])
    raise AssertionError("the API did not start")


def cpu_of(pids: list[int]) -> float:
    """Seconds of processor time."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def megabytes_of(pids: list[int]) -> float:
    """Of memory that is theirs alone or shared."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Connection:
    """One keep-alive connection; as little Python as a load may be."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        # The API takes 1,000 connections from one address: callers come from several.
        address = f"127.0.0.{2 + next(_callers) % 8}"
        return cls(*await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0)))

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        head = f"{method} {BASE}{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        self._writer.write(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return int(answer[9:12]), await self._reader.readexactly(length)

    async def stream(self, path: str) -> asyncio.StreamReader:
        self._writer.write(
            f"GET {BASE}{path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode()
        )
        await self._reader.readuntil(b"\r\n\r\n")
        return self._reader

    def close(self) -> None:
        self._writer.close()


async def closed_loop(
    port: int, in_flight: int, seconds: float, requests: Iterator[tuple[str, str, bytes]]
) -> dict[str, float]:
    """So many callers, each asking again as soon as it is answered."""
    times: list[float] = []
    ends = time.perf_counter() + seconds

    async def caller() -> None:
        connection = await Connection.open(port)
        while (begun := time.perf_counter()) < ends:
            status, answer = await connection.ask(*next(requests))
            assert status < 300, answer
            times.append((time.perf_counter() - begun) * 1e3)
        connection.close()

    await asyncio.gather(*[caller() for _ in range(in_flight)])
    times.sort()
    count = len(times)
    return {
        "in_flight": in_flight,
        "per_s": round(count / seconds),
        "p50_ms": round(times[count // 2], 2),
        "p99_ms": round(times[int(count * 0.99)], 2),
    }


def starts(prefix: str, kind: str = "StepsOrder") -> Iterator[tuple[str, str, bytes]]:
    number = 0
    while number < 10_000_000:
        number += 1
        yield (
            "POST",
            "/workflows",
            json.dumps({"type": kind, "id": f"{prefix}-{number}", "args": [number]}).encode(),
        )


def states(prefix: str, count: int) -> Iterator[tuple[str, str, bytes]]:
    number = 0
    while number < 10_000_000:
        number += 1
        yield "GET", f"/workflows/{prefix}-{1 + number * 7919 % count}", b""


async def watched(
    port: int, pids: list[int], watchers: int, rate: float, seconds: float, path: str
) -> dict[str, float]:
    """So many streams of one list, while orders run at a rate: what it costs, and how late they are
    told."""
    idle_mb = megabytes_of(pids)
    connections = [await Connection.open(port) for _ in range(watchers)]
    streams = [await each.stream(path) for each in connections]
    told = 0

    async def read(stream: asyncio.StreamReader) -> None:
        nonlocal told
        while data := await stream.read(65_536):
            told += data.count(b"event: ")

    readers = [asyncio.create_task(read(stream)) for stream in streams]
    await asyncio.sleep(2)
    quiet, quiet_at = cpu_of(pids), time.perf_counter()
    await asyncio.sleep(3)
    quiet_cores = (cpu_of(pids) - quiet) / (time.perf_counter() - quiet_at)
    callers, orders = [await Connection.open(port) for _ in range(ORDERING)], starts(f"w{uuid4().hex[:6]}")
    begun_cpu, begun = cpu_of(pids), time.perf_counter()
    count = 0

    async def customer(caller: Connection) -> None:
        nonlocal count
        while (elapsed := time.perf_counter() - begun) < seconds:
            if count < elapsed * rate:
                count += 1
                status, answer = await caller.ask(*next(orders))
                assert status == 201, (status, answer)
            else:
                await asyncio.sleep(0.005)

    await asyncio.gather(*[customer(each) for each in callers])
    await asyncio.sleep(0.5)
    cores = (cpu_of(pids) - begun_cpu) / (time.perf_counter() - begun)
    peak_mb = megabytes_of(pids)
    for each in (*connections, *callers):
        each.close()
    for task in readers:
        task.cancel()
    return {
        "watchers": watchers,
        "orders_per_s": round(count / seconds, 1),
        "events_per_s": round(told / seconds),
        "cores": round(cores, 2),
        "quiet_cores": round(quiet_cores, 3),
        "mb": round(peak_mb, 1),
        "kb_each": round((peak_mb - idle_mb) * 1e3 / watchers, 1),
    }


async def measure(
    port: int, pids: list[int], seconds: float, watchers: int, warm_up_s: float
) -> dict[str, Any]:
    connection = await Connection.open(port)
    deadline = time.monotonic() + 60
    while (await connection.ask("POST", "/workflows", next(starts(f"first{uuid4().hex[:6]}"))[2]))[0] != 201:
        assert time.monotonic() < deadline, "no engine"
    await closed_loop(port, 64, warm_up_s, starts(f"warm{uuid4().hex[:6]}"))
    await until_settled(connection)
    found: dict[str, Any] = {}
    for in_flight in (1, 8, 64):
        tell(
            found,
            f"start, {in_flight} at once",
            await closed_loop(port, in_flight, seconds, starts(f"s{in_flight}")),
        )
    await until_settled(connection)
    there = max(1, int(found["start, 8 at once"]["per_s"] * seconds) - 50)
    for in_flight in (1, 8, 64):
        tell(
            found,
            f"state by id, {in_flight} at once",
            await closed_loop(port, in_flight, seconds, states("s8", there)),
        )
    for rate, path in (
        (0.5, "/workflows/events?type=StepsOrder"),
        (5, "/workflows/events?type=StepsOrder"),
        (50, "/workflows/events?status=failed"),
    ):
        name = f"{watchers} watch, {rate:g} orders/s, {path.rpartition('?')[2]}"
        tell(found, name, await watched(port, pids, watchers, rate, seconds, path))
    connection.close()
    return found


def tell(found: dict[str, Any], name: str, figures: dict[str, float]) -> None:
    found[name] = figures
    print(name, figures, file=sys.stderr)


async def until_settled(connection: Connection) -> None:
    """The orders have ended, and the reader knows."""
    deadline = time.monotonic() + 120
    while True:
        _, answer = await connection.ask("GET", "/workflows/counts?status=running")
        if not json.loads(answer)["counts"]:
            return
        assert time.monotonic() < deadline, answer
        await asyncio.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--watchers", type=int, default=1_000)
    parser.add_argument(
        "--warm-up", type=float, help="seconds; 2, or 60 on Kafka, whose JVM takes that to compile itself"
    )
    parser.add_argument("--postgres", action="store_true", help="on Kafka and PostgreSQL, not on a file")
    options = parser.parse_args()
    serve, usual = (kafka, 60.0) if options.postgres else (dev, 2.0)
    warm_up_s = usual if options.warm_up is None else options.warm_up
    with tempfile.TemporaryDirectory() as folder, serve(folder) as (port, pids):
        print(
            json.dumps(
                asyncio.run(measure(port, pids, options.seconds, options.watchers, warm_up_s)), indent=2
            )
        )


if __name__ == "__main__":
    main()
