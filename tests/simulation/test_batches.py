"""The contents of one transaction."""

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


def test_a_view_is_published_once_a_batch_and_only_when_it_changed() -> None:
    world = World(DEPLOYMENTS["first"])
    world.start_workflow("o", "Order", 100)
    told = [batch.states["o"].view for batch in world.medium.batches if "o" in batch.states]
    assert told == [b'"charging"', b'"paid"']
    world.signal("o", "delivered")
    world.signal("o", "delivered")
    told = [batch.states["o"].view for batch in world.medium.batches if "o" in batch.states]
    assert told == [b'"charging"', b'"paid"', b'"delivered"']


def test_batches_of_slow_commands_shrink_and_each_command_is_handled_once() -> None:
    world = World(DEPLOYMENTS["first"], replace(SETTINGS, batch_s=0.0))  # every command is slow
    world.start_workflow("b", "Box")
    for number in range(300):
        world.signal_later("b", "put", number)
    world.settle()
    assert world.names("b").count("SignalReceived") == 300
    assert len(world.history("b")) == 301, "one command a batch"


def test_what_a_start_has_to_resume_does_not_keep_the_commands_of_others_waiting() -> None:
    world = World(DEPLOYMENTS["first"], replace(SETTINGS, batch_s=0.0))
    world.start_workflow("b", "Box")
    for number in range(100):
        world.engine._sources.resume(f"suspended-{number}", "run")
    world.signal_later("b", "put", 1)
    world.engine.run_batch(0)
    assert world.names("b")[-1] == "SignalReceived", "in the first batch"


def test_many_timers_due_at_the_same_time_take_several_batches() -> None:
    world = World(DEPLOYMENTS["first"], replace(SETTINGS, batch_limit=10))
    for number in range(35):
        world.start_workflow(f"b-{number}", "Box", delay_us=1_000_000)
    world.clock.at += 1_000_000
    before = world.engine.batches
    world.settle()
    assert world.engine.batches == before + 4
    assert all("WorkflowBegun" in world.names(f"b-{number}") for number in range(35))
