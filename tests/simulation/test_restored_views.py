"""A store that was restored from events alone has no views (docs/decisions.md); what is said of a
run still has its last one."""

from __future__ import annotations

from msgspec.structs import replace

from perdure.model import commands as cm
from tests.simulation.programs import DEPLOYMENTS
from tests.simulation.world import World


def restored_world() -> World:
    world = World(DEPLOYMENTS["first"])
    world.start_workflow("o", "Order", 100)
    assert world.state("o").view == b'"paid"'
    stored = world.medium.stored
    stored.states["o"] = replace(stored.states["o"], view=b"")
    world.crash()
    return world


def test_a_run_that_is_terminated_after_a_restore_keeps_its_view() -> None:
    world = restored_world()
    world.ask(cm.TerminateWorkflow, "o")
    world.settle()
    assert world.state("o").view == b'"paid"'


def test_a_run_that_continues_after_a_restore_has_a_view_again() -> None:
    world = restored_world()
    world.signal("o", "delivered")
    assert world.state("o").view == b'"delivered"'
