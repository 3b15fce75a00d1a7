"""Activities that may not run twice: what crashes make of them, counted in the world."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from perdure.model import events as ev
from tests.simulation.bank import assert_paid_at_most_once, pay
from tests.simulation.programs import BANK
from tests.simulation.world import World


@pytest.fixture(autouse=True)
def empty_bank() -> Iterator[None]:
    BANK.calls.clear()
    yield
    BANK.calls.clear()


def paid(crash_at: list[int], *, workers_live: bool = False) -> tuple[World, int]:
    return pay("paid_once", crash_at, lease_s=120, workers_live=workers_live)


@pytest.mark.parametrize("workers_live", [False, True])
def test_an_activity_at_most_once_runs_once_whatever_the_point_of_a_crash(workers_live: bool) -> None:
    assert_paid_at_most_once(paid, lambda points: paid(points, workers_live=workers_live))


def test_two_crashes_do_not_run_an_activity_at_most_once_twice() -> None:
    _, count = paid([])
    for point in range(1, count + 1, 2):
        world, _ = paid([point, point + 3])
        assert BANK.calls["seen"] == 1, point
        assert BANK.calls["blind"] <= 1, point
        assert world.value("w")[1] == 7


def test_whose_it_is_is_recorded_before_the_function_starts() -> None:
    world, _ = paid([])
    names = world.names("w")
    assert names.count("ActivityStarted") == 2
    assert names.index("ActivityStarted") < names.index("ActivityCompleted")
    started = next(
        event
        for record in world.store.events("w", world.run_ids["w"][0])
        for event in record.events
        if isinstance(event, ev.ActivityStarted)
    )
    assert started.worker == "worker 1"
