"""What was done outside, counted by idempotency key, against what the orders came to."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.chaos.contents import Violation

EXPECTED = {"completed": {"charge": 1, "deliver": 1, "refund": 0}, "cancelled": {}}
"""How often each must have been done, of an order that ended so; of those that are not named, at
most once."""


def check_ledger(ledger: Path, journal: Path) -> tuple[list[Violation], dict[str, int]]:
    """The contradictions, and counts."""
    keys: dict[tuple[str, str], set[str]] = defaultdict(set)
    done = 0
    for line in ledger.read_text().splitlines() if ledger.exists() else ():
        what, order_id, key = line.split()
        keys[order_id, what].add(key)
        done += 1
    lines: list[dict[str, Any]] = [
        json.loads(line) for line in journal.read_text().splitlines() if line.endswith("}")
    ]
    closed = [line for line in lines if "closed" in line]
    violations = [violation for line in closed for violation in _check_order(line, keys)]
    violations += [
        Violation("client", line["refused"], f"was refused ({line['code']}): {line['message']}")
        for line in lines
        if _is_wrong(line)
    ]
    counts = {
        "orders": sum(line.get("started", 0) for line in lines),
        "ended": len(closed),
        "asked_again": sum("again" in line for line in lines),
        "ledger_lines": done,
        "ledger_keys": sum(len(found) for found in keys.values()),
        **Counter(f"orders_{line['status']}" for line in closed),
    }
    return violations, counts


def _check_order(line: dict[str, Any], keys: dict[tuple[str, str], set[str]]) -> Iterator[Violation]:
    order_id, status = line["closed"], line["status"]
    found = {what: keys.get((order_id, what), set()) for what in ("charge", "deliver", "refund")}
    if status not in EXPECTED:
        yield Violation("ledger", order_id, f"has ended as {status}")
        return
    for what, its_keys in found.items():
        wanted = EXPECTED[status].get(what)
        if len(its_keys) > 1 or (wanted is not None and len(its_keys) != wanted):
            yield Violation(
                "ledger",
                order_id,
                f"is {status}, and {what} was done under {len(its_keys)} keys: {sorted(its_keys)}",
            )
    if status == "completed" and found["charge"] != {line["key"]}:
        yield Violation(
            "ledger", order_id, f"its result is {line['key']!r}, and it was charged as {found['charge']}"
        )
    if status == "cancelled" and found["charge"] and not found["refund"]:
        yield Violation("ledger", order_id, "was charged, cancelled and never refunded")


def _is_wrong(line: dict[str, Any]) -> bool:
    """An order that was cancelled takes no more confirmations; nothing else may be refused."""
    return "refused" in line and line["code"] not in ("closed", "not_found")
