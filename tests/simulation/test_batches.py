"""What one transaction holds."""

from __future__ import annotations

from dataclasses import replace

from tests.simulation.programs import DEPLOYMENTS
from tests.simulation.world import SETTINGS, World


def test_a_chain_of_quick_steps_is_made_durable_by_one_transaction() -> None:
    world = World(DEPLOYMENTS["first"])
    before = world.engine.batches
    world.start_workflow("c", "chain_steps", 10)
    assert len(world.history("c")) == 1
    assert world.engine.batches == before + 1
    assert list(world.store_port.tasks()) == []


def test_a_batch_that_is_not_held_open_holds_no_step() -> None:
    world = World(DEPLOYMENTS["first"], replace(SETTINGS, join_s=0.0))
    world.start_workflow("c", "chain_steps", 10)
    assert len(world.history("c")) == 11


def test_commands_that_came_together_are_one_transaction() -> None:
    world = World(DEPLOYMENTS["first"])
    world.start_workflow("b", "Box")
    before = world.engine.batches
    for number in range(20):
        world.signal_later("b", "put", number)
    world.settle()
    assert len(world.history("b")) == 2
    assert world.engine.batches == before + 1


def test_a_view_is_told_once_a_batch_and_only_when_it_changed() -> None:
    world = World(DEPLOYMENTS["first"])
    world.start_workflow("o", "Order", 100)
    told = [batch.states["o"].view for batch in world.medium.batches if "o" in batch.states]
    assert told == [b'"charging"', b'"paid"']
    world.signal("o", "delivered")
    world.signal("o", "delivered")
    told = [batch.states["o"].view for batch in world.medium.batches if "o" in batch.states]
    assert told == [b'"charging"', b'"paid"', b'"delivered"']
