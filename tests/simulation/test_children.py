"""Children, and messages to other workflows, on memory and in a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.model import commands as cm
from perdure.model.states import Status
from tests.simulation.programs import DEPLOYMENTS
from tests.simulation.world import START, InFile, InMemory, World

SECOND = 1_000_000


@pytest.fixture(params=["memory", "file"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    medium = InFile(tmp_path / "app.db") if request.param == "file" else InMemory()
    world = World(DEPLOYMENTS["first"], medium=medium)
    yield world
    world.close()


def status(world: World, workflow_id: str) -> Status:
    found: Status = world.state(workflow_id).status
    return found


def result(world: World, workflow_id: str) -> Any:
    return world.payloads.decode(world.state(workflow_id).result, Any, what="result")


@pytest.mark.parametrize("crashes", [False, True])
def test_what_becomes_of_other_workflows_reaches_the_code_that_started_them(
    world: World, crashes: bool
) -> None:
    world.start_workflow("f", "family")
    if crashes:
        world.crash()
        world.settle()
    world.advance_to(START + 20 * SECOND)
    assert result(world, "f") == [
        "in use",
        "child of f",
        "CardDeclined of bad",
        "too late",
        "nobody",
        "CardDeclined",
    ]
    assert {each: status(world, each) for each in ("sibling", "bad", "late")} == {
        "sibling": Status.COMPLETED,
        "bad": Status.FAILED,
        "late": Status.CANCELLED,
    }
    assert {each: status(world, each) for each in ("cancelled", "terminated", "abandoned")} == {
        "cancelled": Status.CANCELLED,
        "terminated": Status.TERMINATED,
        "abandoned": Status.RUNNING,
    }
    assert world.state("cancelled").parent == "f"


def test_a_child_keeps_its_own_id_from_a_run_that_is_there_already(world: World) -> None:
    world.start_workflow("sibling", "Sibling")
    world.start_workflow("f", "family")
    assert status(world, "f") is Status.FAILED
    assert status(world, "sibling") is Status.RUNNING, "somebody else's run is not stopped with the parent"


def test_a_parent_that_is_terminated_stops_a_child_that_has_not_answered_yet(world: World) -> None:
    world.ask(cm.StartWorkflow, "f", type="family", input=b"[]")
    world.engine.run_batch(0)
    world.ask(cm.TerminateWorkflow, "f")
    world.settle()
    assert status(world, "f") is Status.TERMINATED
    assert status(world, "sibling") is Status.CANCELLED


def test_a_parent_has_many_children_and_starts_them_in_several_batches(world: World) -> None:
    world.start_workflow("m", "many_children", 1_200)
    assert result(world, "m") == sum(range(1_200))
