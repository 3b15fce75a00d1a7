"""What readers cost the API's process: long histories, slow readers of streams, large dead letters.
Prints JSON.

The server is `perdure dev` on a file: engine, worker and API in one process, whose peak of resident
memory counts.

usage: python -m bench.readers [--events 100000] [--readers 20] [--streams 300] [--view 400000]
[--letters 300] [--seconds 10]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.http import BIN, Connection, port_of, started
from perdure.codec.records import encode_event_record, encode_state, hash_of
from perdure.embedded import Platform
from perdure.model.events import ActivityScheduled, AnyEvent, EventRecord, SignalReceived, WorkflowStarted
from perdure.model.options import ActivityOptions
from perdure.model.states import Status, Wait, WorkflowState
from perdure.registry import Registry

APP = """
from perdure import workflow


@workflow.defn
class Large:
    def __init__(self) -> None:
        self.letter = "a"

    @workflow.run
    async def process(self, size: int) -> None:
        self.size = size
        await workflow.wait_until(lambda: not self.letter)

    @workflow.signal
    def become(self, letter: str) -> None:
        self.letter = letter

    @workflow.view
    def text(self) -> str:
        return self.letter * self.size
"""


def long_run(path: Path, events: int) -> None:
    """An open run of so many events, `long`, that waits for an activity, in a file that a platform
    has made."""
    with Platform(Registry.of([]), f"sqlite:///{path}"):
        pass
    rows: list[tuple[str, int, bytes]] = []
    before = b""
    per_record = 2
    for first in range(1, events + 1, per_record):
        new: list[AnyEvent] = [SignalReceived("go", b'["%d"]' % number) for number in range(per_record)]
        if first == 1:
            new[0] = WorkflowStarted("Long", b"[]", 311, 7)
            new[1] = ActivityScheduled(1, "charge", b"[]", ActivityOptions(), "token")
        encoded = encode_event_record(EventRecord("long", "run-long", first, first, -1, -1, before, new))
        before = hash_of(encoded)
        rows.append(("run-long", first, encoded))
    waits = (Wait("activity", "charge", 1, 1, 1),)
    state = WorkflowState("long", "run-long", "Long", Status.RUNNING, 1, events, 0, events, waits=waits)
    with closing(sqlite3.connect(path)) as connection:
        connection.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)
        connection.execute(
            "INSERT INTO workflows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            ("long", "Long", "running", 1, encode_state(state), "run-long", events, 0, b""),
        )
        connection.commit()


def large_letters(path: Path, count: int, size: int) -> None:
    """So many commands that cannot be read."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executemany(
            "INSERT INTO dead_letters VALUES (?, ?, ?, ?)",
            ((1_000 + n, b"\xff" + os.urandom(size), "no", 1) for n in range(count)),
        )
        connection.commit()


def peak_mb(pid: int) -> float:
    """The most that was resident so far."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) / 1024, 1)
    raise AssertionError("no VmHWM")


def forget_peak(pid: int) -> None:
    """From here on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


async def others(port: int, until: Callable[[], bool], path: str) -> list[float]:
    """Milliseconds that each request of somebody else takes meanwhile."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    times: list[float] = []
    while not until():
        begun = time.perf_counter()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        times.append((time.perf_counter() - begun) * 1e3)
        await asyncio.sleep(0.005)
    writer.close()
    return times


async def beside(port: int, readers: int, seconds: float, path: Callable[[int], str]) -> dict[str, Any]:
    """So many who read, one request after the other, and how long others wait."""
    ends = time.perf_counter() + seconds
    took: list[float] = []

    async def reader() -> None:
        connection = await Connection.open(port)
        number = 0
        while time.perf_counter() < ends:
            begun = time.perf_counter()
            status, answer = await connection.ask("GET", path(number))
            assert status == 200, answer[:200]
            took.append((time.perf_counter() - begun) * 1e3)
            number += 1
        connection.close()

    tasks = [asyncio.create_task(reader()) for _ in range(readers)]
    done = asyncio.gather(*tasks)
    live, state = await asyncio.gather(
        others(port, done.done, "/health/live"), others(port, done.done, "/api/v1/workflows/long")
    )
    await done
    return {"read": spread(took), "live": spread(live), "state_by_id": spread(state)}


def spread(times: list[float]) -> dict[str, float]:
    times = sorted(times)
    return {
        "count": len(times),
        "p50_ms": round(times[len(times) // 2], 1),
        "p99_ms": round(times[min(len(times) - 1, int(len(times) * 0.99))], 1),
        "max_ms": round(times[-1], 1),
    }


async def slow_streams(port: int, pid: int, streams: int, view: int, *, is_one: bool) -> dict[str, float]:
    """Who asks for a stream and then reads nothing, while the workflows change thirty times."""
    connection = await Connection.open(port)
    ids = [f"large-{is_one}-{number}" for number in range(1 if is_one else streams)]
    for each in ids:
        body = json.dumps({"type": "Large", "id": each, "args": [view]}).encode()
        assert (await connection.ask("POST", "/workflows", body))[0] == 201
    forget_peak(pid)
    before = peak_mb(pid)
    sockets: list[socket.socket] = []
    for number in range(streams):
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        slow.connect(("127.0.0.1", port))
        slow.sendall(
            f"GET /api/v1/workflows/{ids[number % len(ids)]}/events HTTP/1.1\r\n"
            "Host: localhost\r\n\r\n".encode()
        )
        sockets.append(slow)
    await asyncio.sleep(1)
    rounds = 30 if is_one else 12
    for number in range(rounds):
        body = json.dumps({"args": [chr(ord("b") + number % 20)]}).encode()
        for each in ids:
            assert (await connection.ask("POST", f"/workflows/{each}/signals/become", body))[0] == 202
        await asyncio.sleep(0.15)
    await asyncio.sleep(1)
    found = {"streams": streams, "workflows": len(ids), "before_mb": before, "peak_mb": peak_mb(pid)}
    for slow in sockets:
        slow.close()
    connection.close()
    await asyncio.sleep(1)
    return {**found, "cost_mb": round(found["peak_mb"] - before, 1)}


async def measure(port: int, pid: int, options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    pages: dict[str, Callable[[int], str]] = {
        "history?limit=1": lambda _: "/workflows/long/history?limit=1",
        "history, page by page": lambda n: f"/workflows/long/history?from={1 + n * 1_000 % options.events}",
        "describe": lambda _: "/workflows/long/describe",
    }
    for name, path in pages.items():
        forget_peak(pid)
        found[name] = {**await beside(port, options.readers, options.seconds, path), "peak_mb": peak_mb(pid)}
    forget_peak(pid)
    before, begun = peak_mb(pid), time.perf_counter()
    status, answer = await (connection := await Connection.open(port)).ask("GET", "/dead-letters")
    took = time.perf_counter() - begun
    connection.close()
    found["dead letters"] = {
        "status": status, "answer_mb": round(len(answer) / 1e6, 2), "took_s": round(took, 2),
        "cost_mb": round(peak_mb(pid) - before, 1),
    }  # fmt: skip
    found["slow streams of one workflow"] = await slow_streams(
        port, pid, options.streams, options.view, is_one=True
    )
    found["slow streams of a workflow each"] = await slow_streams(
        port, pid, options.streams, options.view, is_one=False
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--readers", type=int, default=20)
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--view", type=int, default=400_000)
    parser.add_argument("--letters", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, app = Path(folder) / "bench.db", Path(folder) / "app.py"
        app.write_text(APP)
        long_run(path, options.events)
        large_letters(path, options.letters, 1_000_000)
        command = [
            str(BIN / "perdure"),
            "dev",
            str(app),
            "--db",
            f"sqlite:///{path}",
            "--no-reload",
            "--api-port",
            "0",
        ]
        with started(command) as process:
            print(json.dumps(asyncio.run(measure(port_of(process), process.pid, options)), indent=2))


if __name__ == "__main__":
    main()
