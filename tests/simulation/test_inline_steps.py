"""Steps that may not run twice: what a crash makes of them, counted where they take effect."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from perdure.model import commands as cm
from tests.simulation.programs import BANK, DEPLOYMENTS
from tests.simulation.test_crash_points import Crash, Faults
from tests.simulation.world import SETTINGS, World


@pytest.fixture(autouse=True)
def empty_bank() -> Iterator[None]:
    BANK.calls.clear()
    yield
    BANK.calls.clear()


def charged(crash_at: list[int], *, joins_steps: bool = True, loses_store: bool = False) -> tuple[World, int]:
    """The workflow to its end, through crashes; and the number of points it has."""
    BANK.calls.clear()
    faults = Faults(crash_at)
    world = World(DEPLOYMENTS["first"], SETTINGS, faults.wrap, joins_steps=joins_steps)
    world.ask(cm.StartWorkflow, "c", type="charged_once", input=b"[]", request_id="start")
    faults.is_armed = True
    while True:
        try:
            world.settle()
            if world.state("c") is None:  # the request went with the process: the client repeats it
                world.ask(cm.StartWorkflow, "c", type="charged_once", input=b"[]", request_id="start")
                world.settle()
        except Crash:
            while True:
                if loses_store:
                    world.medium.lose_store()
                try:
                    world.crash()
                except Crash:
                    continue
                break
        else:
            faults.is_armed = False
            return world, len(faults.points)


@pytest.mark.parametrize("joins_steps", [True, False])
def test_a_step_at_most_once_runs_once_whatever_the_point_of_a_crash(joins_steps: bool) -> None:
    world, count = charged([], joins_steps=joins_steps)
    assert world.value("c") == [5, 7]
    assert BANK.calls == {"blind": 1, "seen": 1}
    unknown = 0
    for point in range(1, count + 1):
        world, _ = charged([point], joins_steps=joins_steps, loses_store=point % 2 == 0)
        first, second = world.value("c")
        assert BANK.calls["seen"] == 1, point  # looked up, and run if it had not happened
        assert BANK.calls["blind"] <= 1, point
        assert second == 7
        if first == 5:
            assert BANK.calls["blind"] == 1, point
        else:
            assert first == "unknown"
            unknown += 1
    assert 0 < unknown < count


def test_two_crashes_do_not_run_a_step_at_most_once_twice() -> None:
    _, count = charged([])
    for point in range(1, count + 1):
        for next_one in range(1, 6):
            world, _ = charged([point, point + next_one])
            assert BANK.calls["blind"] <= 1, (point, next_one)
            assert BANK.calls["seen"] == 1, (point, next_one)
            assert world.value("c")[1] == 7
