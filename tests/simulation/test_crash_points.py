"""Every scenario is crashed before and after calls of its ports, started again on what is durable,
and must end as if nothing had been.

`make test` takes a sample of the points; `SWEEP=full` takes all of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from tests.simulation.invariants import assert_records_lie_where_histories_say, check_everything
from tests.simulation.programs import DEPLOYMENTS
from tests.simulation.scenarios import SCENARIOS, Play, outcome, play
from tests.simulation.world import SETTINGS, InFile, Medium, World, seeded

IS_FULL: Final = os.environ.get("SWEEP") == "full"
SAMPLE: Final = 40
"""Points for each scenario in memory."""
SAMPLE_IN_FILE: Final = 6
WITH_STEPS: Final = (
    "chain of steps",
    "fan-out of 100 steps",
    "retries of a step",
    "inline steps",
    "handler that raises",
    "cancel that is swallowed",
    "timers of many runs at one moment",
)
IN_FILE: Final = (
    "inline steps",
    "records for others",
    "messages between workflows",
    "tokens",
    "results from outside",
    "order",
    "saga cancelled",
    "signal storm",
    "retries",
    "terminate and start",
    "suspended, fixed",
)


class Crash(BaseException):
    """The process is gone."""


class Faults:
    """Counts the points before and after each call of a port; crashes at some.

    Args:
        crash_at: numbers of points, from 1.
    """

    def __init__(self, crash_at: Iterable[int] = ()) -> None:
        self.crash_at = set(crash_at)
        self.points: list[str] = []
        self.is_armed = False
        self.crashes = 0

    def wrap(self, port: Any, name: str) -> Any:
        return Crashing(port, name, self)

    def point(self, where: str) -> None:
        if not self.is_armed:
            return
        self.points.append(where)
        if len(self.points) in self.crash_at:
            self.crashes += 1
            raise Crash(where)


class Crashing:
    """Around a port; of the channel only what comes between a commit and its answers."""

    def __init__(self, port: Any, name: str, faults: Faults) -> None:
        self._port = port
        self._name = name
        self._faults = faults

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._port, method)
        if self._name == "channel":
            return Crashing(call, "deliveries", self._faults) if method == "deliveries" else call
        if self._name == "deliveries" and method != "deliver":
            return call

        def crashing(*args: Any, **kwargs: Any) -> Any:
            self._faults.point(f"before {self._name}.{method}")
            result = call(*args, **kwargs)
            self._faults.point(f"after {self._name}.{method}")
            return result

        return crashing


def run(
    name: str,
    crash_at: Iterable[int] = (),
    medium: Medium | None = None,
    *,
    joins_steps: bool = True,
    loses_store: bool = False,
    checks_fold: bool = False,
) -> tuple[Play, Faults]:
    """Play a scenario, crashing at some points; perhaps the store's disk is gone each time."""
    faults = Faults(crash_at)
    world = World(
        DEPLOYMENTS["first"], SETTINGS, faults.wrap, medium, joins_steps=joins_steps, checks_fold=checks_fold
    )
    faults.is_armed = True

    def recover(error: BaseException) -> None:
        if not isinstance(error, Crash):
            raise error
        while True:
            if loses_store:
                world.medium.lose_store()
            try:
                world.crash(workers_live=True)
            except Crash:
                continue
            return

    story = play(world, SCENARIOS[name], recover)
    faults.is_armed = False
    return story, faults


def check(story: Play) -> None:
    world = story.world
    histories = world.histories()
    check_everything(histories, world.store_port, world.registry.served, world.payloads)
    assert_records_lie_where_histories_say(histories, world.records())


@cache
def without_crash(name: str, *, joins_steps: bool = True) -> tuple[Any, int]:
    """How a scenario ends, and how many points it has."""
    story, faults = run(name, joins_steps=joins_steps)
    return outcome(story), len(faults.points)


def sample(count: int, size: int) -> list[int]:
    """Points to crash at: all, or some that are always the same."""
    points = range(1, count + 1)
    return list(points) if IS_FULL or count <= size else sorted(seeded(count).sample(points, size))


@pytest.mark.parametrize("name", SCENARIOS)
def test_without_a_crash_every_invariant_holds(name: str) -> None:
    story, faults = run(name, checks_fold=True)
    check(story)
    assert len(faults.points) > 10
    assert {
        "before log.commit",
        "after log.commit",
        "before store.apply",
        "before deliveries.deliver",
    } <= set(faults.points)


@pytest.mark.timeout(1800 if IS_FULL else 60)
@pytest.mark.parametrize(
    ("name", "joins_steps"), [*((name, True) for name in SCENARIOS), *((name, False) for name in WITH_STEPS)]
)
def test_a_crash_at_any_call_of_a_port_changes_nothing(name: str, joins_steps: bool) -> None:
    expected, count = without_crash(name, joins_steps=joins_steps)
    assert expected == without_crash(name)[0]
    for point in sample(count, SAMPLE):
        story, faults = run(name, [point], joins_steps=joins_steps)
        where = f"{name!r} crashed at point {point} of {count}, {faults.points[point - 1]}"
        assert faults.crashes == 1, where
        try:
            check(story)
            assert outcome(story) == expected
        except Exception as error:
            raise AssertionError(f"{where}: {error}") from error


@pytest.mark.timeout(1800 if IS_FULL else 60)
@pytest.mark.parametrize("name", SCENARIOS)
def test_crashes_one_after_the_other_change_nothing(name: str) -> None:
    count = without_crash(name)[1]
    dice = seeded(count)
    for number in range(100 if IS_FULL else 4):
        points = sorted(dice.sample(range(1, 2 * count), min(6, count)))
        points += [points[0] + 1, points[0] + 3, points[0] + 8]  # in the start after the first one, too
        story, _ = run(name, points, loses_store=number % 2 == 0)
        try:
            check(story)
            assert outcome(story) == without_crash(name)[0]
        except Exception as error:
            raise AssertionError(f"{name!r} crashed at points {points}: {error}") from error


@pytest.mark.timeout(1800 if IS_FULL else 60)
@pytest.mark.parametrize("name", IN_FILE)
def test_a_crash_at_any_call_of_a_port_changes_nothing_in_a_file(name: str, tmp_path: Path) -> None:
    faultless, faults = run(name, medium=InFile(tmp_path / "faultless.db"))
    expected, count = outcome(faultless), len(faults.points)
    faultless.world.close()
    assert expected == without_crash(name)[0]
    for point in sample(count, SAMPLE_IN_FILE):
        story, faults = run(name, [point], InFile(tmp_path / f"{point}.db"))
        try:
            assert faults.crashes == 1
            check(story)
            assert outcome(story) == expected
        except Exception as error:
            raise AssertionError(
                f"{name!r} crashed at point {point}, {faults.points[point - 1]}: {error}"
            ) from error
        finally:
            story.world.close()
