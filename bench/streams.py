"""A stream from one run to one reader of server-sent events, on a file: values per second. Prints
JSON.

The server is `perdure dev`, a process of its own; the reader is a plain socket. `activity` is
written by one attempt, `workflow` by workflow code that awaits a step for every hundred values.

usage: python -m bench.streams [VALUES]
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time

from bench.http import BASE, dev
from perdure import activity, workflow


@activity.defn(timeout="10m")
async def write_values(count: int) -> int:
    out = activity.stream("values", dict[str, int])
    for number in range(count):
        out.write({"number": number})
        if number % 100 == 0:
            await asyncio.sleep(0)
    return count


@activity.step
async def breathe() -> None:
    """Nothing: the values before it are durable with it."""


@workflow.defn
async def stream_of_an_activity(count: int) -> int:
    return await write_values(count)


@workflow.defn
async def stream_of_a_workflow(count: int) -> int:
    out = workflow.stream("values", dict[str, int])
    for number in range(count):
        if number % 100 == 0:
            await breathe()
        out.write({"number": number})
    return count


async def request(
    port: int, head: str, body: bytes = b""
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    lines = (
        f"{head} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    writer.write(lines.encode() + body)
    await writer.drain()
    return reader, writer


async def measured(port: int, kind: str, count: int) -> dict[str, object]:
    name = f"{kind}-{time.time_ns()}"
    body = json.dumps({"type": kind, "id": name, "args": [count]}).encode()
    begun = time.perf_counter()
    reader, writer = await request(port, f"POST {BASE}/workflows", body)
    answer = await reader.read(2_000)
    assert b" 201 " in answer, answer
    writer.close()
    head = f"GET {BASE}/workflows/{name}/streams/values"
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    writer.write(f"{head} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n\r\n".encode())
    found, first_s, rest = 0, 0.0, b""
    while True:
        data = await reader.read(2**18)
        assert data, "the stream has broken off"
        text = rest + data
        found += text.count(b'\ndata: {"number"') - rest.count(b'\ndata: {"number"')
        rest = text[-64:]
        first_s = first_s or (time.perf_counter() - begun if found else 0.0)
        if b"event: end" in text:
            break
    elapsed = time.perf_counter() - begun
    writer.close()
    assert found == count, f"{found} of {count} values"
    return {"values": count, "values_per_s": round(count / elapsed), "first_ms": round(first_s * 1e3, 1)}


async def measure(port: int, count: int) -> dict[str, object]:
    found: dict[str, object] = {}
    for kind in ("stream_of_an_activity", "stream_of_a_workflow"):
        await measured(port, kind, 1_000)
        found[kind] = await measured(port, kind, count)
    return found


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    with tempfile.TemporaryDirectory() as folder, dev(folder, __file__) as (port, _):
        print(json.dumps(asyncio.run(measure(port, count))))


if __name__ == "__main__":
    main()
