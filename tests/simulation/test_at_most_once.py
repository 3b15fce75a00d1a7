"""Activities that may not run twice: what crashes make of them, counted in the world."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from perdure.model import commands as cm
from perdure.model import events as ev
from tests.simulation.programs import BANK, DEPLOYMENTS
from tests.simulation.test_crash_points import Crash, Faults
from tests.simulation.world import SETTINGS, World


@pytest.fixture(autouse=True)
def empty_bank() -> Iterator[None]:
    BANK.calls.clear()
    yield
    BANK.calls.clear()


def paid(crash_at: list[int], *, workers_live: bool = False) -> tuple[World, int]:
    """The workflow to its end, through crashes; and the number of points it has."""
    BANK.calls.clear()
    faults = Faults(crash_at)
    world = World(DEPLOYMENTS["first"], SETTINGS, faults.wrap)
    world.ask(cm.StartWorkflow, "p", type="paid_once", input=b"[]", request_id="start")
    faults.is_armed = True
    while True:
        try:
            world.settle()
            if world.state("p") is None:  # the request went with the process: the client repeats it
                world.ask(cm.StartWorkflow, "p", type="paid_once", input=b"[]", request_id="start")
                world.settle()
            world.advance(120)  # leases expire
        except Crash:
            while True:
                try:
                    world.crash(workers_live=workers_live)
                except Crash:
                    continue
                break
        else:
            faults.is_armed = False
            return world, len(faults.points)


@pytest.mark.parametrize("workers_live", [False, True])
def test_an_activity_at_most_once_runs_once_whatever_the_point_of_a_crash(workers_live: bool) -> None:
    world, count = paid([])
    assert world.value("p") == [5, 7]
    assert BANK.calls == {"blind": 1, "seen": 1}
    unknown = 0
    for point in range(1, count + 1):
        world, _ = paid([point], workers_live=workers_live)
        first, second = world.value("p")
        assert BANK.calls["seen"] == 1, point  # looked up, and run if it had not happened
        assert BANK.calls["blind"] <= 1, point
        assert second == 7
        if first == 5:
            assert BANK.calls["blind"] == 1, point
        else:
            assert first == "unknown"
            unknown += 1
    assert 0 < unknown < count


def test_two_crashes_do_not_run_an_activity_at_most_once_twice() -> None:
    _, count = paid([])
    for point in range(1, count + 1, 2):
        world, _ = paid([point, point + 3])
        assert BANK.calls["seen"] == 1, point
        assert BANK.calls["blind"] <= 1, point
        assert world.value("p")[1] == 7


def test_whose_it_is_is_recorded_before_the_function_starts() -> None:
    world, _ = paid([])
    names = world.names("p")
    assert names.count("ActivityStarted") == 2
    assert names.index("ActivityStarted") < names.index("ActivityCompleted")
    started = next(
        event
        for record in world.store.events("p", world.run_ids["p"][0])
        for event in record.events
        if isinstance(event, ev.ActivityStarted)
    )
    assert started.worker == "worker 1"
