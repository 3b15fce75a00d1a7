"""The same order on Restate: three steps in the service's process, on Restate's own server with one node.

The server comes from npm, `@restatedev/restate-server`; SERVER names another. The load asks over HTTP, one keep-alive connection for each in flight.

usage: [SERVER=restate-server] python -m bench.peers.restate_orders N C [N C …]    prints a line of JSON for each pair
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from uuid import uuid4

import httpx
import hypercorn.asyncio
import hypercorn.config
import restate

from bench.closed_loop import measured

SERVER = "@restatedev/restate-server@1.7.12"
INGRESS, ADMIN, SERVICE = "http://127.0.0.1:8080", "http://127.0.0.1:9070", "127.0.0.1:9080"
PATIENCE_S = 120

shop = restate.Service("shop")


async def reserve() -> str:
    return "reserved"


async def charge() -> str:
    return "charged"


async def send() -> str:
    return "sent"


@shop.handler()
async def order(ctx: restate.Context, item: int) -> list[str]:
    steps = {"reserve": reserve, "charge": charge, "send": send}
    return [await ctx.run_typed(name, step) for name, step in steps.items()]


def serve() -> None:
    config = hypercorn.config.Config()
    config.bind = [SERVICE]
    asyncio.run(hypercorn.asyncio.serve(restate.app([shop]), config))


@contextlib.contextmanager
def running(*command: str, **environment: str):
    """A command and what it starts, which npx does not end when it is ended."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def registered(client: httpx.AsyncClient) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(httpx.TransportError):
            answer = await client.post(f"{ADMIN}/deployments", json={"uri": f"http://{SERVICE}"})
            if answer.is_success:
                return
        assert time.monotonic() < deadline, "Restate did not start"
        await asyncio.sleep(0.5)


async def measure(orders: int, in_flight: int) -> dict[str, object]:
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=in_flight), timeout=PATIENCE_S) as client:

        async def ordered(item: int) -> list[str]:
            answer = await client.post(f"{INGRESS}/shop/order", json=item, headers={"idempotency-key": uuid4().hex})
            return answer.raise_for_status().json()

        return await measured("restate", "steps", orders, in_flight, ordered)


async def main(pairs: list[tuple[int, int]]) -> None:
    async with httpx.AsyncClient() as client:
        await registered(client)
    await measure(100, 8)
    for orders, in_flight in pairs:
        print(json.dumps(await measure(orders, in_flight)), flush=True)


if sys.argv[1:] == ["serve"]:
    serve()
else:
    numbers = [int(each) for each in sys.argv[1:]]
    server = [os.environ["SERVER"]] if os.environ.get("SERVER") else ["npx", "--yes", SERVER]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        stack.enter_context(running(sys.executable, "-m", "bench.peers.restate_orders", "serve"))
        stack.enter_context(running(*server, "--base-dir", folder, "--node-name", "n1", RESTATE_BIND_IP="127.0.0.1"))
        asyncio.run(main(list(zip(numbers[::2], numbers[1::2], strict=True))))
