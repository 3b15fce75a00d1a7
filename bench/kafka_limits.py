"""What the engine on Kafka stands: signals to one run, timers due together, sleeping runs, lost and
restarted engines, reload.

Broker, engines, worker and load on this machine.

usage: [BOOTSTRAP=host:port] python -m bench.kafka_limits [NAME …]
    prints a line of JSON for each of: signals timers lateness takeover handover reload
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.kafka import a_broker, perdure
from bench.workflows import ActivitiesOrder, Alarm, Counter, Sleeper
from perdure.client import Client, Handle
from perdure.errors import EngineUnavailable, WorkflowNotFound

PARTITIONS = 4
SIGNALS = int(os.environ.get("SIGNALS", "5000"))
TIMERS = int(os.environ.get("TIMERS", "100000"))
SLEEPERS = int(os.environ.get("SLEEPERS", "50000"))
RELOAD_S = 600.0


class Side:
    """A namespace with its processes."""

    def __init__(self, bootstrap: str, folder: str) -> None:
        self.bootstrap = bootstrap
        self.folder = Path(folder)
        self.namespace = f"limits{time.time_ns()}"
        self.url = f"kafka://{bootstrap}/{self.namespace}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        apply = ("topics", "apply", "--kafka", bootstrap, "--namespace", self.namespace, "--queue", "default")
        subprocess.run(
            perdure(*apply, "--partitions", str(PARTITIONS), "--replication", "1"),
            check=True,
            capture_output=True,
        )

    def engine(self, name: str) -> None:
        self._begin(name, "engine", "--instance", name, "--state-dir", str(self.folder / name))

    def worker(self) -> None:
        self._begin("worker", "worker", "--concurrency", "500")

    def _begin(self, name: str, kind: str, *options: str) -> None:
        app = str(Path(__file__).parent / "workflows.py")
        command = perdure(kind, app, "--kafka", self.bootstrap, "--namespace", self.namespace, *options)
        with (self.folder / "output").open("ab") as output:
            self.processes[name] = subprocess.Popen(command, stdout=output, stderr=output)

    def end(self, name: str, number: signal.Signals) -> None:
        process = self.processes.pop(name)
        process.send_signal(number)
        process.wait(30)

    def rss_mb(self, name: str) -> float:
        pages = int(Path(f"/proc/{self.processes[name].pid}/statm").read_text().split()[1])
        return round(pages * 4096 / 1e6, 1)


@contextlib.contextmanager
def side(bootstrap: str) -> Generator[Side]:
    with tempfile.TemporaryDirectory() as folder:
        it = Side(bootstrap, folder)
        try:
            yield it
        finally:
            for name in list(it.processes):
                it.end(name, signal.SIGKILL)


async def many(count: int, at_once: int, one: Callable[[int], Coroutine[Any, Any, Any]]) -> float:
    """Do it so many times; the seconds it takes."""
    todo = iter(range(count))

    async def again() -> None:
        for item in todo:
            await one(item)

    begun = time.perf_counter()
    await asyncio.gather(*[again() for _ in range(at_once)])
    return time.perf_counter() - begun


async def signals(it: Side) -> dict[str, object]:
    """One run takes them all."""
    it.engine("e1")
    async with Client.connect(it.url) as client:
        counter = await client.start("counter", Counter.process)
        elapsed = await many(SIGNALS, 256, lambda _: counter.signal(Counter.add, 1))
    return {"signals_per_s_to_one_run": round(SIGNALS / elapsed), "signals": SIGNALS}


async def timers(it: Side) -> dict[str, object]:
    """Due in the same second; then sleeping runs, and what they cost in memory."""
    it.engine("e1")
    async with Client.connect(it.url) as client:
        due = datetime.now(UTC) + timedelta(seconds=20 + TIMERS / 1_500)
        elapsed = await many(TIMERS, 256, lambda item: client.start(f"alarm-{item}", Alarm.process, due))
        rss_mb = it.rss_mb("e1")
        await asyncio.sleep((due - datetime.now(UTC)).total_seconds())
        while len(await client.list(type="Alarm", status="running", limit=1)):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.2)
        fired_s = (datetime.now(UTC) - due).total_seconds()
    return {
        "timers_due_together": TIMERS,
        "all_fired_s": round(fired_s, 1),
        "starts_per_s": round(TIMERS / elapsed),
        "engine_rss_mb": rss_mb,
    }


async def lateness(it: Side) -> dict[str, object]:
    """Single timers, now and then."""
    it.engine("e1")
    late: list[int] = []
    async with Client.connect(it.url) as client:
        await client.execute("first", Alarm.process, datetime.now(UTC))
        dice = random.Random(1)

        async def one(item: int) -> None:
            moment = datetime.now(UTC) + timedelta(seconds=dice.uniform(0.5, 1.5))
            late.append(await client.execute(f"alarm-{item}", Alarm.process, moment))

        await many(200, 10, one)
    late.sort()
    return {
        "timer_late_ms_p50": round(late[len(late) // 2] / 1e3, 1),
        "timer_late_ms_p99": round(late[int(len(late) * 0.99)] / 1e3, 1),
    }


async def lose(it: Side, number: signal.Signals) -> dict[str, float]:
    """Two engines under load, one is ended: the longest that any order took."""
    it.engine("e1")
    it.engine("e2")
    it.worker()
    slowest: list[tuple[float, float]] = []
    async with Client.connect(it.url) as client:
        await client.execute("first", ActivitiesOrder.process, 1)
        await many(100, 8, lambda item: client.execute(f"warm-{item}", ActivitiesOrder.process, item))
        stop_at = time.perf_counter() + 16

        async def customer(number: int) -> None:
            item = 0
            while time.perf_counter() < stop_at:
                begun = time.perf_counter()
                await client.execute(f"order-{number}-{item}", ActivitiesOrder.process, item)
                slowest.append((time.perf_counter() - begun, begun))
                item += 1

        customers = [asyncio.create_task(customer(each)) for each in range(16)]
        await asyncio.sleep(3)
        begun = time.perf_counter()
        await asyncio.to_thread(it.end, "e1", number)
        ended_s = time.perf_counter() - begun
        await asyncio.gather(*customers)
    return {
        "longest_order_s": round(max(slowest)[0], 2),
        "process_ended_s": round(ended_s, 2),
        "orders": len(slowest),
    }


async def takeover(it: Side) -> dict[str, object]:
    """kill -9: its partitions are served by the other."""
    return {"killed": await lose(it, signal.SIGKILL)}


async def handover(it: Side) -> dict[str, object]:
    """SIGTERM: a planned restart."""
    return {"terminated": await lose(it, signal.SIGTERM)}


async def cancelled(handle: Handle[Any, Any]) -> None:
    """Asked again while the engine is still reading, which may take longer than a request waits."""
    with contextlib.suppress(WorkflowNotFound):  # what was asked before has been done
        while True:
            try:
                await handle.cancel()
            except EngineUnavailable:
                continue
            return


async def reload(it: Side) -> dict[str, object]:
    """The store is lost: all is read again from the events topic."""
    it.engine("e1")
    async with Client.connect(it.url) as client:
        elapsed = await many(
            SLEEPERS, 256, lambda item: client.start(f"sleeper-{item}", Sleeper.process, item)
        )
        rss_mb = it.rss_mb("e1")
        it.end("e1", signal.SIGTERM)
        shutil.rmtree(it.folder / "e1")
        begun = time.perf_counter()
        it.engine("e1")
        handles = [client.get(f"sleeper-{item}", Sleeper.process) for item in range(32)]  # on every partition
        async with asyncio.timeout(RELOAD_S):
            await asyncio.gather(*[cancelled(handle) for handle in handles])
        served_s = time.perf_counter() - begun
    return {
        "sleeping_runs": SLEEPERS,
        "starts_per_s": round(SLEEPERS / elapsed),
        "engine_rss_mb": rss_mb,
        "lost_store_to_serving_s": round(served_s, 2),
        "records_per_s_at_least": round(SLEEPERS / served_s),
    }


ALL: dict[str, Callable[[Side], Coroutine[Any, Any, dict[str, object]]]] = {
    "signals": signals,
    "timers": timers,
    "lateness": lateness,
    "takeover": takeover,
    "handover": handover,
    "reload": reload,
}


def main() -> None:
    with a_broker() as bootstrap:
        for name in sys.argv[1:] or ALL:
            with side(bootstrap) as it:
                print(json.dumps({"limit": name, **asyncio.run(ALL[name](it))}), flush=True)


if __name__ == "__main__":
    main()
