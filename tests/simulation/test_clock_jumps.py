"""The time of day jumps by hours while everything is pending: nothing is lost, fires twice or
hangs."""

from __future__ import annotations

import random

import pytest

from perdure.engine.hybrid_clock import BELIEVED_AFTER_US
from perdure.model.states import Status
from tests.simulation.invariants import check_everything
from tests.simulation.programs import DEPLOYMENTS
from tests.simulation.scenarios import SCENARIOS, Play, outcome, play
from tests.simulation.world import START, World

HOUR_US = 3_600_000_000


def checked(story: Play) -> None:
    world = story.world
    check_everything(world.histories(), world.store_port, world.registry.served, world.payloads)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_clock_that_goes_back_by_hours_between_actions_changes_nothing(name: str) -> None:
    story = Play(World(DEPLOYMENTS["first"], checks_fold=True), SCENARIOS[name])
    while not story.is_over:
        story.step()
        story.world.clock.wrong_by -= 3 * HOUR_US
    assert outcome(story) == outcome(play(World(DEPLOYMENTS["first"]), SCENARIOS[name]))
    checked(story)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_clock_that_is_hours_ahead_for_a_moment_changes_nothing(name: str) -> None:
    world = World(DEPLOYMENTS["first"], checks_fold=True)
    story = Play(world, SCENARIOS[name])
    while not story.is_over:
        world.clock.wrong_by = 3 * HOUR_US
        world.settle()
        world.clock.wrong_by = 0
        story.step()
    assert outcome(story) == outcome(play(World(DEPLOYMENTS["first"]), SCENARIOS[name]))
    checked(story)


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != "results from outside"])
def test_whatever_the_clock_does_every_history_is_sound(name: str) -> None:
    """Jumps ahead that last are followed: timers fire early by the machine's own word. Twice, or
    out of order, nothing happens. Left out: answers from outside that come in time."""
    world = World(DEPLOYMENTS["first"], checks_fold=True)
    story, dice = Play(world, SCENARIOS[name]), random.Random(name)
    while not story.is_over:
        world.clock.wrong_by += dice.choice((-5, -1, 1, 5)) * HOUR_US
        if dice.random() < 0.5:
            world.advance(BELIEVED_AFTER_US / 1e6 + 1)
        if dice.random() < 0.2:
            world.crash(workers_live=True)
            world.settle()
        story.step()
    checked(story)


def test_a_sleep_ends_when_it_has_lasted_though_the_clock_goes_back_all_the_time() -> None:
    world = World(DEPLOYMENTS["first"])
    world.start_workflow("s", "sleep_then_step", 600)
    for _ in range(10):
        assert world.state("s").status is Status.RUNNING
        world.clock.wrong_by -= HOUR_US
        world.advance(61)
    assert world.state("s").status is Status.COMPLETED


@pytest.mark.parametrize("ahead", [-HOUR_US, HOUR_US], ids=["behind", "ahead"])
def test_a_partition_that_an_engine_with_another_clock_had_continues(ahead: int) -> None:
    """The engine that gains it comes from an hour away, has it for a while, and gives it back."""
    world = World(DEPLOYMENTS["first"], checks_fold=True)
    world.start_workflow("s", "sleep_then_step", 600)
    world.start_workflow("b", "Box")
    for wrong_by in (ahead, 0, ahead):
        world.clock.wrong_by = wrong_by
        world.crash(workers_live=True)  # another engine: it knows what was recorded
        world.advance(30)
    world.clock.wrong_by = 0
    world.advance(600)
    assert world.names("s").count("TimerFired") == 1
    world.signal("b", "close")
    assert [world.state(each).status for each in ("b", "s")] == [Status.COMPLETED] * 2
    check_everything(world.histories(), world.store_port, world.registry.served, world.payloads)
    stamps = [record.at for record in world.history("s")]
    assert stamps == sorted(stamps)
    assert world.clock.at < START + HOUR_US, "by the monotonic clock: nothing waited for the time of day"
