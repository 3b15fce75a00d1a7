"""The thresholds of the garbage collector in a process that serves."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from perdure.runtime.collector import collect_seldom


@pytest.fixture(autouse=True)
def _thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((700, 10, 10), (10_000, 10, 10)),
        ((2_000, 10, 0), (10_000, 10, 0)),  # from 3.13 on, the last one is not used
        ((50_000, 20, 5), (50_000, 20, 10)),
        ((0, 10, 10), (0, 10, 10)),
    ],
)
def test_lower_thresholds_are_raised_and_higher_ones_and_off_stay(
    before: tuple[int, int, int], after: tuple[int, int, int]
) -> None:
    gc.set_threshold(*before)

    collect_seldom()

    assert gc.get_threshold() == after
