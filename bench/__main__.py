"""All benchmarks in one run, medians of several rounds; our peer DBOS (on SQLite too) beside us,
round by round.

usage: python -m bench [--rounds 5] [--quick]
    prints a table on standard error and one JSON document on standard output
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from importlib.util import find_spec
from statistics import median
from typing import Any

ORDERS = {1: 500, 8: 2_000, 64: 6_000, 256: 10_000}
PEER_ORDERS = {1: 200, 64: 400}


def child(*command: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, *command], check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def one_round(*, quick: bool) -> list[dict[str, Any]]:
    share = 4 if quick else 1
    figures: list[dict[str, Any]] = []
    for kind in ("steps", "activities"):
        for in_flight, orders in ORDERS.items():
            figures.append(child("-m", "bench.orders", kind, str(orders // share), str(in_flight)))
            if kind == "steps" and in_flight in PEER_ORDERS and find_spec("dbos"):
                with tempfile.TemporaryDirectory() as folder:
                    peer_orders = str(PEER_ORDERS[in_flight] // share)
                    figures.append(
                        child(
                            "-m", "bench.peers.dbos_orders", peer_orders, str(in_flight), f"{folder}/dbos.db"
                        )
                    )
    return figures


def medians(rounds: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    by_case: dict[tuple[str, str, int], list[dict[str, Any]]] = defaultdict(list)
    for figures in rounds:
        for figure in figures:
            by_case[figure["system"], figure["kind"], figure["in_flight"]].append(figure)
    return [
        {"system": system, "kind": kind, "in_flight": in_flight, "rounds": len(cases)}
        | {
            name: round(median(case[name] for case in cases), 2)
            for name in ("orders_per_s", "p50_ms", "p99_ms")
        }
        for (system, kind, in_flight), cases in by_case.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a quarter of the orders, one round")
    options = parser.parse_args()
    rounds = [one_round(quick=options.quick) for _ in range(1 if options.quick else options.rounds)]
    orders = medians(rounds)
    ours = {
        (each["kind"], each["in_flight"]): each["orders_per_s"]
        for each in orders
        if each["system"] == "perdure"
    }
    ratios = {
        f"steps_at_{each['in_flight']}": round(ours["steps", each["in_flight"]] / each["orders_per_s"], 1)
        for each in orders
        if each["system"] != "perdure"
    }
    table(orders)
    others = [
        child("-m", "bench.replay"),
        child("-m", "bench.sleeping", "20000" if options.quick else "100000"),
    ]
    for figure in others:
        print("  ".join(f"{name}={value}" for name, value in figure.items()), file=sys.stderr)
    print(json.dumps({"orders": orders, "times_dbos_sqlite": ratios, "others": others}, indent=2))


def table(orders: list[dict[str, Any]]) -> None:
    print(
        f"{'system':<12} {'kind':<11} {'in flight':>9} {'orders/s':>9} {'p50 ms':>8} {'p99 ms':>8}",
        file=sys.stderr,
    )
    for each in orders:
        print(
            f"{each['system']:<12} {each['kind']:<11} {each['in_flight']:>9} {each['orders_per_s']:>9.0f} "
            f"{each['p50_ms']:>8} {each['p99_ms']:>8}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
