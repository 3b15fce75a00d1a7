"""Checks what a namespace's topics hold, offline: plain reads of committed records, and the
invariants of ARCHITECTURE over them.

    python -m tests.chaos.checker --kafka localhost:9092 --namespace shop [--journal FILE]
    [--must-end] [--at-rest]

Prints a JSON verdict; exit code 1 when something that must hold does not. What can be checked at
any time is checked always, also while engines are at work: I1 to I4, I6, I8, and of I9 what is
overdue; what is found is looked for a second time. `--must-end` also wants every run to have ended,
`--at-rest` no lag and no open transaction (I10).
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.chaos.contents import Contents, Decoded, Violation
from tests.chaos.partitions import check_partitions
from tests.chaos.promises import (
    Acknowledged,
    Bounds,
    OpenRun,
    check_acknowledged,
    check_at_rest,
    check_open_runs,
    read_journal,
)
from tests.chaos.reading import read
from tests.chaos.runs import check_runs

SHOWN = 50
RETRY_AFTER_S = 5.0
"""Topics are not read all at one moment: what is found while they are written is looked at a second
time, seconds later."""


@dataclass
class Verdict:
    """The findings."""

    violations: list[Violation]
    open_runs: list[OpenRun]
    counts: dict[str, int] = field(default_factory=dict[str, int])
    statuses: dict[str, int] = field(default_factory=dict[str, int])
    notes: list[str] = field(default_factory=list[str])

    @property
    def is_good(self) -> bool:
        """Whether everything holds."""
        return not self.violations

    @property
    def broken(self) -> set[str]:
        """The invariants that do not hold."""
        return {each.invariant for each in self.violations}

    def confirmed_by(self, later: Verdict) -> Verdict:
        """The later one, with the violations that this one has found at the same places: what was
        under way has moved on."""
        places = {(each.invariant, each.where) for each in self.violations}
        return replace(
            later, violations=[each for each in later.violations if (each.invariant, each.where) in places]
        )

    def as_json(self) -> dict[str, Any]:
        """For people and programs; long lists are cut."""
        return {
            "is_good": self.is_good,
            "broken": dict(sorted(Counter(each.invariant for each in self.violations).items())),
            "violations": [each._asdict() for each in self.violations[:SHOWN]],
            "counts": self.counts,
            "statuses": self.statuses,
            "open": [each._asdict() for each in self.open_runs[:SHOWN]],
            "notes": self.notes,
        }


def check(
    contents: Contents,
    journal: Iterable[Acknowledged] = (),
    bounds: Bounds | None = None,
    *,
    at_rest: bool = False,
) -> Verdict:
    """Everything.

    Args:
        contents: of the topics.
        journal: what clients saw acknowledged, if they wrote it down.
        bounds: for I9.
        at_rest: I10, too: the load is over, and nobody may have anything left to do.
    """
    decoded = Decoded(contents)
    acknowledged = list(journal)
    open_runs, late = check_open_runs(decoded, bounds or Bounds())
    violations = [
        *decoded.unreadable,
        *check_runs(decoded),
        *check_partitions(decoded),
        *check_acknowledged(decoded, acknowledged),
        *late,
        *(check_at_rest(decoded) if at_rest else ()),
    ]
    counts = {
        "runs": len(decoded.histories),
        "events": sum(len(each.record.events) for each in decoded.events),
        "commands": len(decoded.commands),
        "tasks": sum(len(found) for found in decoded.tasks.values()),
        "replies": len(decoded.replies),
        "dead_letters": len(decoded.dead_letters),
        "commits": len(contents.commits),
        "acknowledged": len(acknowledged),
    }
    statuses = Counter(str(state.status) for state in decoded.states.values())
    return Verdict(violations, open_runs, counts, dict(statuses), contents.notes)


def main() -> None:
    """Check a namespace and print the verdict."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.checker", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--kafka", required=True, help="brokers to begin with, HOST:PORT,…")
    parser.add_argument("--namespace", required=True)
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of librdkafka"
    )
    parser.add_argument("--journal", type=Path, help="what clients saw acknowledged, a JSON object a line")
    parser.add_argument(
        "--late", type=float, default=30.0, help="seconds after which a timer or a task is overdue"
    )
    parser.add_argument("--must-end", action="store_true", help="an open run is a violation")
    parser.add_argument(
        "--at-rest", action="store_true", help="lag is a violation, and so is an open transaction"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    settings = dict(each.split("=", 1) for each in options.set) | {"bootstrap.servers": options.kafka}
    journal = read_journal(options.journal) if options.journal else []

    def look() -> Verdict:
        return check(
            read(options.namespace, settings),
            journal,
            Bounds(options.late, options.must_end),
            at_rest=options.at_rest,
        )

    verdict = look()
    if not verdict.is_good:
        time.sleep(RETRY_AFTER_S)
        verdict = verdict.confirmed_by(look())
    print(json.dumps(verdict.as_json(), indent=2))
    sys.exit(not verdict.is_good)


if __name__ == "__main__":
    main()
