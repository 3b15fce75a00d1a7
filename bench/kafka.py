"""Orders on Kafka beside the floor of the design: broker, engine, worker and load on this machine,
in one run.

The floor is the least a Kafka engine can do for an order of three activities, exactly once: no
schemas, no store, no replay, no retries. A ratio to it holds when the machine is slow. FLOOR names
the folder of the floor's scripts; without it, only our figures are printed.

A broker of its own is warmed up first: for a minute of load its JVM spends as much on compiling
itself as on its work, and a broker that anybody runs is past that. A broker at BOOTSTRAP is taken
to be warm.

With --restate, Restate runs the same order of three steps in every round: it needs npm, and what
`pip install perdure[bench]` brings.

usage: [FLOOR=folder] [BOOTSTRAP=host:port] python -m bench.kafka [--rounds 5] [--partitions 4]
[--restate] [--quick] prints JSON, a table on standard error
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path
from statistics import median
from typing import Any

from tests.kafka.broker import STEADY, running

ORDERS = {1: 300, 8: 1_500, 64: 5_000, 256: 10_000}
RESTATE_ORDERS = {1: 200, 8: 600, 64: 600}
WARM_UP_ORDERS = {256: 60_000, 8: 1_000}
BIN = Path(sys.executable).parent
APP = Path(__file__).parent / "workflows.py"


def perdure(*arguments: str) -> list[str]:
    return [str(BIN / "perdure"), *arguments]


@contextlib.contextmanager
def processes(bootstrap: str, namespace: str, folder: str, app: Path) -> Generator[None]:
    """An engine and a worker of ours."""
    common = [str(app), "--kafka", bootstrap, "--namespace", namespace]
    with Path(folder, "output").open("ab") as output:
        started = [
            subprocess.Popen(
                perdure("engine", *common, "--state-dir", f"{folder}/state"), stdout=output, stderr=output
            ),
            subprocess.Popen(
                perdure("worker", *common, "--concurrency", "500"), stdout=output, stderr=output
            ),
        ]
    try:
        yield
    except subprocess.SubprocessError:
        print(Path(folder, "output").read_text(errors="replace")[-5_000:], file=sys.stderr)
        raise
    finally:
        for process in started:
            process.terminate()
        for process in started:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def a_broker() -> Generator[str]:
    """Where it is: the one at BOOTSTRAP, or one for as long as this takes, warmed up."""
    if bootstrap := os.environ.get("BOOTSTRAP"):
        yield bootstrap
        return
    with running(1, options=STEADY) as cluster:
        print("warming up the broker, a minute and a half", file=sys.stderr)
        with namespace(cluster.bootstrap, 4) as url:
            for in_flight, orders in WARM_UP_ORDERS.items():
                load(url, "activities", orders, in_flight)
        yield cluster.bootstrap


@contextlib.contextmanager
def namespace(bootstrap: str, partitions: int, app: Path = APP) -> Generator[str]:
    """Topics, an engine and a worker of ours: the address for clients."""
    name = f"bench{time.time_ns()}"
    counts = ("--partitions", str(partitions), "--replication", "1")
    command = perdure("topics", "apply", "--kafka", bootstrap, "--namespace", name, *counts)
    subprocess.run(command, check=True, capture_output=True)
    with tempfile.TemporaryDirectory() as folder, processes(bootstrap, name, folder, app):
        yield f"kafka://{bootstrap}/{name}"


def load(url: str, kind: str, orders: int, in_flight: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.kafka_load", url, kind, str(orders), str(in_flight)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=300)
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def ours(bootstrap: str, partitions: int, share: int) -> list[dict[str, Any]]:
    with namespace(bootstrap, partitions) as url:
        loads = [(kind, *each) for kind in ("activities", "steps") for each in ORDERS.items()]
        return [load(url, kind, orders // share, in_flight) for kind, in_flight, orders in loads]


def floor(bootstrap: str, partitions: int, share: int) -> list[dict[str, Any]]:
    folder = os.environ.get("FLOOR", "")
    if not folder:
        return []
    loads = [f"{orders // share} {in_flight}" for in_flight, orders in ORDERS.items()]
    environment = {
        **os.environ,
        "BOOTSTRAP": bootstrap,
        "PYTHON": sys.executable,
        "PARTITIONS": str(partitions),
    }
    done = subprocess.run(
        ["bash", f"{folder}/run.sh", *loads],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [{"kind": "activities", **line} for line in lines]


def restate(share: int) -> list[dict[str, Any]]:
    pairs = [
        str(number) for in_flight, orders in RESTATE_ORDERS.items() for number in (orders // share, in_flight)
    ]
    command = [sys.executable, "-m", "bench.peers.restate_orders", *pairs]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=600)
    return [json.loads(line) for line in done.stdout.splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--restate", action="store_true", help="the peer beside us")
    parser.add_argument("--quick", action="store_true", help="a quarter of the orders, one round")
    options = parser.parse_args()
    share, rounds = (4, 1) if options.quick else (1, options.rounds)
    cases: dict[tuple[str, str, int], list[dict[str, Any]]] = defaultdict(list)
    with a_broker() as bootstrap:
        for _ in range(rounds):
            peer = restate(share) if options.restate else []
            for figure in [
                *peer,
                *floor(bootstrap, options.partitions, share),
                *ours(bootstrap, options.partitions, share),
            ]:
                cases[figure["system"], figure["kind"], figure["in_flight"]].append(figure)
    medians: list[dict[str, Any]] = [
        {"system": system, "kind": kind, "in_flight": in_flight, "rounds": len(figures)}
        | {
            name: round(median(figure[name] for figure in figures), 2)
            for name in ("orders_per_s", "p50_ms", "p99_ms")
        }
        for (system, kind, in_flight), figures in cases.items()
    ]
    by_case = {(each["system"], each["kind"], each["in_flight"]): each for each in medians}
    ratios = {
        f"activities_at_{in_flight}": {
            "orders_per_s": round(us["orders_per_s"] / least["orders_per_s"], 2),
            "p50": round(us["p50_ms"] / least["p50_ms"], 2),
        }
        for in_flight in ORDERS
        if (us := by_case.get(("perdure", "activities", in_flight)))
        and (least := by_case.get(("floor", "activities", in_flight)))
    }
    to_restate = {
        f"steps_at_{in_flight}": round(
            by_case["perdure", "steps", in_flight]["orders_per_s"] / theirs["orders_per_s"], 1
        )
        for in_flight in RESTATE_ORDERS
        if (theirs := by_case.get(("restate", "steps", in_flight)))
    }
    for each in medians:
        print("  ".join(f"{name}={value}" for name, value in each.items()), file=sys.stderr)
    print(
        json.dumps(
            {
                "partitions": options.partitions,
                "orders": medians,
                "ours_to_floor": ratios,
                "ours_to_restate": to_restate,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
