"""Attributes that the code sets, on memory and in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import json

from perdure import activity, workflow
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.limits import ATTRIBUTES_BYTES
from perdure.model.replies import Refused
from perdure.model.states import Status
from perdure.registry import Registry
from tests.simulation.invariants import check_everything
from tests.simulation.test_crash_points import Crash, Faults
from tests.simulation.world import InFile, InMemory, World


@activity.defn(name="attributes_pack")
def pack() -> str:
    return "packed"


@workflow.defn(name="AttributesOrder")
class Order:
    def __init__(self) -> None:
        self.is_done = False

    @workflow.run
    async def process(self, is_new: bool = True) -> str:
        workflow.set_attributes(status="packing", cents=1200)
        workflow.set_attributes(status=await pack(), is_late=False, region=None)
        await workflow.wait_until(lambda: self.is_done)
        if is_new:
            workflow.continue_as_new(self.process, False)
        workflow.set_attributes(status="done")
        return "ok"

    @workflow.signal
    def finish(self) -> None:
        self.is_done = True

    @workflow.query
    def tries(self) -> None:
        workflow.set_attributes(status="asked")


@workflow.defn(name="attributes_wrong")
async def wrong(kind: str) -> None:
    values: dict[str, Any] = {
        "list": {"x": [1]}, "nan": {"x": float("nan")}, "int": {"x": 2**63}, "object": {"x": object()},
        "large": {"x": "y" * ATTRIBUTES_BYTES}, "surrogate": {"x": "\ud800"}, "name": {"y" * 256: 1},
    }  # fmt: skip
    workflow.set_attributes(**values[kind])


REGISTRY = Registry.of([Order, wrong], [pack])


@pytest.fixture(params=["memory", "file"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    medium = InFile(tmp_path / "app.db") if request.param == "file" else InMemory()
    world = World(REGISTRY, medium=medium)
    yield world
    world.close()


def attributes(world: World) -> Any:
    return json.decode(world.state("order-1").attributes)


@pytest.mark.parametrize("crashes", [False, True])
def test_a_run_has_those_of_its_start_and_those_that_its_code_sets(world: World, crashes: bool) -> None:
    world.start_workflow("order-1", "AttributesOrder", attributes=b'{"region":"eu","customer":"Ada"}')
    assert attributes(world) == {"customer": "Ada", "status": "packed", "cents": 1200, "is_late": False}
    if crashes:
        world.crash()
    world.signal("order-1", "finish")
    assert world.names("order-1")[0] == "WorkflowStarted"
    assert world.names("order-1").count("AttributesSet") == 2  # of the run that continues the first
    first = world.events("order-1")[0]
    assert json.decode(first.attributes)["status"] == "packed"
    if crashes:
        world.crash()
    world.signal("order-1", "finish")
    assert world.value("order-1") == "ok"
    assert attributes(world)["status"] == "done"
    check_everything(world.histories(), world.store_port, world.registry.served, world.payloads)


def test_a_query_cannot_set_them(world: World) -> None:
    world.start_workflow("order-1", "AttributesOrder")
    request = world.ask(cm.QueryWorkflow, "order-1", name="tries")
    world.settle()
    reply = world.replies[request]
    assert isinstance(reply, Refused)
    assert "tried to set attributes" in reply.message
    assert attributes(world)["status"] == "packed"


@pytest.mark.parametrize("kind", ["list", "nan", "int", "object", "large", "surrogate", "name"])
def test_what_cannot_be_an_attribute_suspends_the_run_and_is_not_recorded(world: World, kind: str) -> None:
    world.start_workflow("order-1", "attributes_wrong", kind)
    state = world.state("order-1")
    assert state.status is Status.SUSPENDED
    assert "attribute" in state.reason
    assert Path(__file__).name in state.reason
    assert not [event for event in world.events("order-1") if isinstance(event, ev.AttributesSet)]


def played(crash_at: list[int]) -> tuple[World, int]:
    """A whole run, whose process dies at these calls of its ports."""
    faults = Faults(crash_at)
    world = World(REGISTRY, wrap=faults.wrap)
    faults.is_armed = True

    def live(step: Callable[[], object]) -> None:
        try:
            step()
        except Crash:
            live(world.crash)

    def ask(command: Any, request_id: str, **fields: Any) -> None:
        while request_id not in world.replies:
            live(lambda: world.ask(command, "order-1", request_id=request_id, **fields))
            live(world.settle)

    ask(cm.StartWorkflow, "start", type="AttributesOrder", input=b"[false]")
    ask(cm.SignalWorkflow, "finish", name="finish")
    while world.state("order-1").status is Status.RUNNING:
        live(lambda: world.advance(60))
    return world, len(faults.points)


def test_they_are_set_once_whatever_call_of_a_port_the_process_dies_at() -> None:
    _, points = played([])
    assert points > 20
    for point in range(1, points + 1):
        world, _ = played([point])
        assert attributes(world) == {"status": "done", "cents": 1200, "is_late": False}
        assert world.names("order-1").count("AttributesSet") == 3
        check_everything(world.histories(), world.store_port, world.registry.served, world.payloads)
