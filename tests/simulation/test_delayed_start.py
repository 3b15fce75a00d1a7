"""What comes before a delayed start is there when the code begins: signals are handled first, in
their order."""

from __future__ import annotations

import pytest

from perdure import workflow
from perdure.client.description import begins_at
from perdure.model.commands import CancelWorkflow, StartWorkflow, TerminateWorkflow
from perdure.model.states import Status
from perdure.model.validation import fault_of
from perdure.registry import Registry
from tests.simulation.world import World


@workflow.defn
class Late:
    def __init__(self) -> None:
        self.seen: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        self.seen.append("run")
        await workflow.wait_until(lambda: "end" in self.seen)
        return self.seen

    @workflow.signal
    async def put(self, name: str) -> None:
        self.seen.append(name)


REGISTRY = Registry.of([Late])


@pytest.mark.parametrize("crashes", [False, True])
def test_signals_before_a_delayed_start_are_handled_before_the_code_begins(crashes: bool) -> None:
    world = World(REGISTRY)
    world.start_workflow("w", "Late", delay_us=1_000_000)
    for name in ("a", "b", "c"):
        world.signal("w", "put", name)
    assert world.state("w").status is not Status.COMPLETED
    if crashes:
        world.crash()
    world.advance(1)
    world.signal("w", "put", "end")
    assert world.value("w") == ["a", "b", "c", "run", "end"]


def test_a_signal_with_the_start_is_handled_after_the_code_has_begun() -> None:
    world = World(REGISTRY)
    world.start_workflow("w", "Late", signal_name="put", signal_input=b'["end"]')
    assert world.value("w") == ["run", "end"]


@workflow.defn
class Parent:
    @workflow.run
    async def run(self) -> list[str]:
        later = workflow.options(delay="1s", timeout="10s")
        child = await later.start("child", Late.run)
        await child.signal(Late.put, "end")
        return await child.result()


def test_a_start_at_a_time_begins_then_and_not_before() -> None:
    world = World(REGISTRY)
    at = world.clock.at + 5_000_000
    world.start_workflow("w", "Late", start_at=at)
    assert begins_at(world.state("w")) == at
    world.signal("w", "put", "end")
    world.advance(4.9)
    assert world.state("w").status is Status.RUNNING
    world.advance(0.1)
    assert world.value("w") == ["end", "run"]
    assert begins_at(world.state("w")) == 0


def test_a_start_at_a_past_time_begins_immediately() -> None:
    world = World(REGISTRY)
    world.start_workflow("w", "Late", start_at=1)
    world.signal("w", "put", "end")
    assert world.value("w") == ["run", "end"]


@pytest.mark.parametrize("crashes", [False, True])
def test_a_signal_with_a_start_that_is_not_delayed_begins_a_delayed_run(crashes: bool) -> None:
    world = World(REGISTRY)
    world.start_workflow("w", "Late", delay_us=10_000_000, timeout_us=2_000_000)
    world.signal("w", "put", "a")
    assert begins_at(world.state("w"))
    world.start_workflow("w", "Late", if_running="attach", signal_name="put", signal_input=b'["b"]')
    assert not begins_at(world.state("w"))
    if crashes:
        world.crash()
    world.advance(1.9)
    world.signal("w", "put", "end")
    assert world.value("w") == ["a", "run", "b", "end"]


def test_the_timeout_of_a_run_that_began_early_counts_from_then() -> None:
    world = World(REGISTRY)
    world.start_workflow("w", "Late", delay_us=10_000_000, timeout_us=2_000_000)
    world.start_workflow("w", "Late", if_running="attach", signal_name="put", signal_input=b'["b"]')
    world.advance(2)
    assert world.state("w").status is Status.TIMED_OUT


def test_a_signal_with_a_delayed_start_leaves_the_run_delayed() -> None:
    world = World(REGISTRY)
    for _ in range(2):
        world.start_workflow(
            "w", "Late", delay_us=1_000_000, if_running="attach", signal_name="put", signal_input=b'["b"]'
        )
    assert begins_at(world.state("w"))


def test_a_delay_does_not_use_up_the_timeout() -> None:
    world = World(REGISTRY)
    world.start_workflow("w", "Late", delay_us=10_000_000, timeout_us=2_000_000)
    world.advance(11)
    assert world.state("w").status is Status.RUNNING
    world.advance(1)
    assert world.state("w").status is Status.TIMED_OUT


@pytest.mark.parametrize("ended", [Status.CANCELLED, Status.TERMINATED])
def test_a_run_that_ends_before_it_is_due_never_begins(ended: Status) -> None:
    world = World(REGISTRY)
    world.start_workflow("w", "Late", delay_us=1_000_000)
    world.ask(CancelWorkflow if ended is Status.CANCELLED else TerminateWorkflow, "w")
    world.settle()
    world.advance(2)
    assert world.state("w").status is ended
    assert "WorkflowBegun" not in world.names("w")


def test_an_update_cannot_come_with_a_delayed_start() -> None:
    command = StartWorkflow("w", request_id="r", type="Late", delay_us=1, update_name="u")
    fault = fault_of(command)
    assert fault is not None
    assert "needs the code of the run" in fault.message


def test_a_child_begins_after_its_delay() -> None:
    world = World(Registry.of([Late, Parent]))
    world.start_workflow("w", "Parent")
    assert begins_at(world.state("child")) == world.clock.at + 1_000_000
    world.advance(1)
    assert world.value("w") == ["end", "run"]
