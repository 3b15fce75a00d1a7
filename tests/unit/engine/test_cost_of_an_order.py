"""What an order costs the engine, counted in calls of our functions, so that a capability which
asks a little of every order is noticed. The count does not depend on the machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

import pytest

import perdure.engine
from bench.engine import measure

ROOT: Final = Path(__file__).parents[3]
OURS: Final = str(Path(perdure.engine.__file__).parents[1])
MOST: Final = {"ActivitiesOrder": 384, "StepsOrder": 354}
"""Calls of an order with three activities or steps. A change that raises one says why in
`docs/decisions.md`, and shows by `make bench` that no order has become more than 2 % slower."""


def calls(kind: str, orders: int) -> Counter[CodeType]:
    counted: Counter[CodeType] = Counter()

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            counted[frame.f_code] += 1

    sys.setprofile(profile)
    try:
        measure(kind, orders, 64)
    finally:
        sys.setprofile(None)
    return Counter({code: n for code, n in counted.items() if code.co_filename.startswith(OURS)})


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="other versions call comprehensions differently")
def test_an_order_costs_the_engine_no_more_calls_than_before() -> None:
    """In a process of its own: other tests install guards, and define workflows."""
    command = [sys.executable, "-m", "tests.unit.engine.test_cost_of_an_order"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    for kind, (per_order, frequent) in json.loads(done.stdout).items():
        assert 0 < per_order <= MOST[kind], (kind, frequent)


def main() -> None:
    """Print, for each kind of order, its calls, and its most frequent functions."""
    found: dict[str, tuple[float, list[str]]] = {}
    for kind in MOST:
        measure(kind, 64, 64)  # fills caches
        more = calls(kind, 192) - calls(kind, 64)
        frequent = [f"{n / 128:.1f} {code.co_qualname}" for code, n in more.most_common(40)]
        found[kind] = more.total() / 128, frequent
    print(json.dumps(found))


if __name__ == "__main__":
    main()
