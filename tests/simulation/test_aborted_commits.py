"""A commit that is aborted is done again: no data is lost, nothing happens twice, and clients
notice nothing."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from perdure.errors import CommitAborted
from tests.simulation.invariants import check_everything
from tests.simulation.programs import DEPLOYMENTS
from tests.simulation.scenarios import SCENARIOS, Play, outcome, play
from tests.simulation.world import World, seeded

SAMPLE = 12


class FullDisk:
    """Around a log: some commits are aborted.

    Args:
        abort_at: numbers of calls of `commit`, from 1.
    """

    def __init__(self, abort_at: set[int]) -> None:
        self._abort_at = abort_at
        self._log: Any = None
        self.commits = 0

    def wrap(self, port: Any, name: str) -> Any:
        if name != "log":
            return port
        self._log = port
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def commit(self, batch: Any) -> None:
        self.commits += 1
        if self.commits in self._abort_at:
            raise CommitAborted("the disk is full")
        self._log.commit(batch)


def run(name: str, abort_at: set[int], *, joins_steps: bool = True) -> tuple[Play, FullDisk]:
    disk = FullDisk(abort_at)
    world = World(DEPLOYMENTS["first"], wrap=disk.wrap, joins_steps=joins_steps)
    return play(world, SCENARIOS[name]), disk


@cache
def without_fault(name: str, *, joins_steps: bool) -> tuple[Any, int]:
    story, disk = run(name, set(), joins_steps=joins_steps)
    return outcome(story), disk.commits


@pytest.mark.parametrize("joins_steps", [True, False], ids=["steps-join", "steps-do-not-join"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_an_aborted_commit_changes_nothing(name: str, joins_steps: bool) -> None:
    expected, count = without_fault(name, joins_steps=joins_steps)
    commits = range(1, count + 1)
    for number in commits if count <= SAMPLE else sorted(seeded(count).sample(commits, SAMPLE)):
        for abort_at in ({number}, {number, number + 1, number + 3}):
            story, disk = run(name, abort_at, joins_steps=joins_steps)
            world = story.world
            told = [report for report in world.reports if report.startswith("the disk is full")]
            assert len(told) == sum(each <= disk.commits for each in abort_at)
            check_everything(world.histories(), world.store_port, world.registry.served, world.payloads)
            assert outcome(story) == expected, f"{name!r} with the commits {abort_at} of {count} aborted"
