"""What an order costs the engine, counted in calls of our functions, so that a capability which
asks a little of every order is noticed. The count does not depend on the machine.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

import pytest

import perdure.engine
from bench.engine import measure

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


@pytest.mark.parametrize("kind", MOST)
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="other versions call comprehensions differently")
def test_an_order_costs_the_engine_no_more_calls_than_before(kind: str) -> None:
    measure(kind, 64, 64)  # fills caches
    more = calls(kind, 192) - calls(kind, 64)
    per_order = more.total() / 128
    frequent = [f"{n / 128:.1f} {code.co_qualname}" for code, n in more.most_common(40)]
    assert per_order <= MOST[kind], frequent
