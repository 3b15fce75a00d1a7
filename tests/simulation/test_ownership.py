"""Partitions that go and come back: what is there is forgotten, and taken up again."""

from __future__ import annotations

import pytest

from perdure.model.states import Status
from tests.simulation.invariants import check_everything
from tests.simulation.programs import DEPLOYMENTS
from tests.simulation.scenarios import SCENARIOS, Play, outcome, play
from tests.simulation.world import World


def test_runs_of_a_partition_that_is_lost_are_forgotten() -> None:
    world = World(DEPLOYMENTS["first"])
    world.start_workflow("b", "Box")
    partition, _ = world.log.input_of("b")
    world.engine.partitions_lost([partition + 1])
    assert len(world.engine.runs) == 1, "another partition"
    world.engine.partitions_lost([partition])
    assert len(world.engine.runs) == 0


def test_runs_of_a_gained_partition_continue() -> None:
    world = World(DEPLOYMENTS["first"], checks_fold=True)
    world.start_workflow("b", "Box")
    world.start_workflow("s", "sleep_then_step", 10)
    partition, _ = world.log.input_of("b")
    world.engine.partitions_lost([partition])
    world.clock.at += 20_000_000
    world.engine.partitions_gained([partition])
    world.settle()
    world.signal("b", "close")
    assert [world.state(each).status for each in ("b", "s")] == [Status.COMPLETED] * 2


@pytest.mark.parametrize("joins_steps", [True, False], ids=["steps-join", "steps-do-not-join"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_partition_that_goes_and_comes_back_between_actions_changes_nothing(
    name: str, joins_steps: bool
) -> None:
    world = World(DEPLOYMENTS["first"], joins_steps=joins_steps, checks_fold=True)
    story = Play(world, SCENARIOS[name])
    while not story.is_over:
        partition, _ = world.log.input_of("any")
        world.engine.partitions_lost([partition])
        world.engine.partitions_gained([partition])
        story.step()
    assert outcome(story) == outcome(play(World(DEPLOYMENTS["first"]), SCENARIOS[name]))
    check_everything(world.histories(), world.store_port, world.registry.served, world.payloads)
