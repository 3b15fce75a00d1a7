"""What readers cost the API's process is bounded, however many read and however slowly. In a
process of its own, whose memory is measured."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

STREAMS = """
import asyncio, json, socket, sys, threading
from pathlib import Path
from types import SimpleNamespace
from perdure.api.app import create_app
from perdure.api.auth.security import Unsecured
from perdure.api.backend import Backend
from perdure.api.server import ApiServer
from perdure.model.states import Status, WorkflowState

READERS, VIEW, ROUNDS, WORKFLOWS = 300, 400_000, int(sys.argv[1]), int(sys.argv[2])


def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def state(number, at):
    view = b'"%d %b"' % (at, b"x" * VIEW)
    return WorkflowState(f"w-{number}", "r", "Order", Status.RUNNING, 1, at, 0, at, view)


class Transport:
    is_reader_near = True
    @property
    def reader(self): return self
    def state(self, workflow_id): return state(int(workflow_id[2:]), 1)
    async def close(self): ...


class Feed:
    def start(self, listener):
        self.listener, self.loop = listener, asyncio.get_running_loop()
    async def begun(self): ...
    async def positions(self): return []
    async def close(self): ...


feed = Feed()
app = create_app(Backend("shop", Transport(), feed), Unsecured())
server = ApiServer(app, "127.0.0.1", 0, grace_s=0)
server.start()
port = int(server.url.rpartition(":")[2])
while not hasattr(feed, "loop"):
    pass


def on_loop(work):
    done = threading.Event()
    feed.loop.call_soon_threadsafe(lambda: (work(), done.set()))
    done.wait()


def ask(number):
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect(("127.0.0.1", port))
    reader.sendall(f"GET /api/v1/workflows/w-{number % WORKFLOWS}/events HTTP/1.1\\r\\nHost: "
        f"localhost\\r\\n\\r\\n".encode())
    return reader


before = resident_mb()
readers = [ask(number) for number in range(READERS)]
def told():
    found = {}
    watches = lambda: [*app.hub.whole._all()]
    on_loop(lambda: found.update(waiting=app.hub.whole.waiting, watching=len(watches()),
            cut=sum(each.is_cut for each in watches())))
    return found


while told()["watching"] < READERS:
    pass
most = resident_mb()
for at in range(2, ROUNDS + 2):
    for number in range(WORKFLOWS):
        on_loop(lambda: feed.listener([(f"w-{number}", state(number, at))]))
    most = max(most, resident_mb())
found = told()
print(json.dumps({"cost_mb": round(most - before, 1), "waiting": found["waiting"],
            "cut": READERS - found["watching"] + found["cut"]}))
for reader in readers:
    reader.close()
server.stop()
server.join()
"""

BUDGET_MB = 200.0


@pytest.mark.parametrize(("rounds", "workflows"), [(30, 1), (12, 300)])
def test_three_hundred_slow_readers_of_streams_cost_less_than_their_budget(
    rounds: int, workflows: int
) -> None:
    command = [sys.executable, "-c", STREAMS, str(rounds), str(workflows)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["cost_mb"] < BUDGET_MB, found
    assert found["cut"] > 0, "those who read nothing are cut"
