"""A paused run: its code sees nothing, and everything in order when it continues."""

from __future__ import annotations

from typing import Any

import pytest

from perdure import activity, workflow
from perdure.activity import Retry
from perdure.model import commands as cm
from perdure.model.replies import Accepted, Answered, Refused
from perdure.model.states import Status
from perdure.registry import Registry
from tests.simulation.invariants import check_everything
from tests.simulation.world import World

FAILING: list[bool] = []


@activity.defn(retry=Retry(maximum_attempts=2, first_interval="1s", when_exhausted="pause"))
async def charge() -> int:
    if FAILING:
        raise ConnectionError("the bank is down")
    return 7


@workflow.defn
class Shop:
    def __init__(self) -> None:
        self.seen: list[str] = []

    @workflow.run
    async def run(self, naps: bool = True) -> list[str]:
        self.seen.append("run")
        if naps:
            await workflow.sleep("10s")
        self.seen.append("awake")
        await workflow.wait_until(lambda: "end" in self.seen)
        return self.seen

    @workflow.signal
    def put(self, name: str) -> None:
        self.seen.append(name)

    @workflow.query
    def all(self) -> list[str]:
        return self.seen

    @workflow.view
    def view(self) -> list[str]:
        return self.seen

    @workflow.update
    def add(self, name: str) -> int:
        self.seen.append(name)
        return len(self.seen)

    @add.validator
    def _may_add(self, name: str) -> None:
        if name in self.seen:
            raise ValueError("it is there")


@workflow.defn(name="Shop")
class ShopWithout:
    """The next release, without the signal."""

    @workflow.run
    async def run(self, naps: bool = True) -> list[str]:
        if naps:
            await workflow.sleep("10s")
        await workflow.sleep("1s")
        return ["done"]


@workflow.defn
async def pays() -> int:
    return await charge()


REGISTRY = Registry.of([Shop, pays], [charge])


def ask(world: World, kind: Any, id: str = "w", **fields: Any) -> Any:
    request = world.ask(kind, id, **fields)
    world.settle()
    return world.replies[request]


def pause(world: World) -> None:
    assert isinstance(ask(world, cm.PauseWorkflow, by="ann", reason="look"), Accepted)


def unpause(world: World) -> None:
    assert isinstance(ask(world, cm.UnpauseWorkflow, by="bob"), Accepted)


def seen(world: World) -> Any:
    reply = ask(world, cm.QueryWorkflow, name="all")
    assert isinstance(reply, Answered)
    return world.payloads.decode(reply.result, Any, what="answer")


@pytest.mark.parametrize("crashes", [False, True])
def test_code_does_not_run_and_queries_and_views_answer_from_the_last_state(crashes: bool) -> None:
    world = World(REGISTRY)
    world.start_workflow("w", "Shop", False)
    pause(world)
    world.signal("w", "put", "a")
    if crashes:
        world.crash()
    world.signal("w", "put", "end")
    assert seen(world) == ["run", "awake"]
    state = world.state("w")
    assert (state.status, state.view, state.reason) == (Status.PAUSED, b'["run","awake"]', "look")
    unpause(world)
    assert world.value("w") == ["run", "awake", "a", "end"]
    check_everything(world.histories(), world.store_port, REGISTRY.workflows, world.payloads)


@pytest.mark.parametrize("crashes", [False, True])
def test_a_timer_that_becomes_due_fires_when_the_run_continues(crashes: bool) -> None:
    world = World(REGISTRY)
    world.start_workflow("w", "Shop")
    pause(world)
    world.advance(60)
    if crashes:
        world.crash()
    assert "TimerFired" not in world.names("w")
    unpause(world)
    assert seen(world) == ["run", "awake"]


def test_a_timer_that_is_not_due_yet_fires_at_its_time() -> None:
    world = World(REGISTRY)
    world.start_workflow("w", "Shop")
    pause(world)
    world.advance(4)
    unpause(world)
    world.advance(5)
    assert seen(world) == ["run"]
    world.advance(1)
    assert seen(world) == ["run", "awake"]


def test_a_cancellation_takes_effect_when_the_run_continues() -> None:
    world = World(REGISTRY)
    world.start_workflow("w", "Shop")
    pause(world)
    ask(world, cm.CancelWorkflow)
    assert world.state("w").status is Status.PAUSED
    unpause(world)
    assert world.state("w").status is Status.CANCELLED


def test_an_update_is_checked_against_the_last_state_and_handled_when_the_run_continues() -> None:
    world = World(REGISTRY)
    world.start_workflow("w", "Shop", False)
    pause(world)
    refused = ask(world, cm.UpdateWorkflow, name="add", input=b'["run"]')
    assert isinstance(refused, Refused)
    assert refused.code == "rejected"
    assert isinstance(ask(world, cm.UpdateWorkflow, name="add", input=b'["b"]'), Accepted)
    assert "UpdateCompleted" not in world.names("w")
    unpause(world)
    assert seen(world) == ["run", "awake", "b"]
    assert "UpdateCompleted" in world.names("w")


def test_it_is_paused_and_continued_again_and_again() -> None:
    world = World(REGISTRY, checks_fold=True)
    world.start_workflow("w", "Shop", False)
    for number in range(3):
        pause(world)
        world.signal("w", "put", str(number))
        unpause(world)
    world.crash()
    assert seen(world) == ["run", "awake", "0", "1", "2"]


def test_code_that_does_not_fit_when_the_run_continues_suspends_it_until_it_is_fixed() -> None:
    world = World(REGISTRY)
    world.start_workflow("w", "Shop")
    pause(world)
    world.signal("w", "put", "a")
    world.deploy(Registry.of([pays], [charge]))
    unpause(world)
    assert world.state("w").status is Status.SUSPENDED
    world.deploy(REGISTRY)
    assert seen(world) == ["run", "a"]
    check_everything(world.histories(), world.store_port, REGISTRY.workflows, world.payloads)


def test_a_signal_that_new_code_cannot_take_is_ignored_when_the_run_continues() -> None:
    world = World(REGISTRY)
    world.start_workflow("w", "Shop")
    pause(world)
    world.signal("w", "put", "a")
    world.deploy(Registry.of([ShopWithout, pays], [charge]))
    unpause(world)
    world.advance(30)
    assert world.value("w") == ["done"]


@pytest.fixture
def failing() -> Any:
    FAILING.append(True)
    yield FAILING.clear
    FAILING.clear()


@pytest.mark.parametrize("crashes", [False, True])
def test_an_activity_without_attempts_left_pauses_the_run_until_it_is_retried(
    failing: Any, crashes: bool
) -> None:
    world = World(REGISTRY)
    world.start_workflow("w", "pays")
    world.advance(60)
    state = world.state("w")
    assert state.status is Status.PAUSED
    assert state.reason == "activity 1 'charge' failed after 2 attempts: ConnectionError: the bank is down"
    if crashes:
        world.crash()
    failing()
    assert isinstance(ask(world, cm.RetryActivityNow, number=1, by="ann"), Accepted)
    assert world.value("w") == 7


def test_unpause_retries_it(failing: Any) -> None:
    world = World(REGISTRY)
    world.start_workflow("w", "pays")
    world.advance(60)
    failing()
    unpause(world)
    assert world.value("w") == 7


@pytest.mark.parametrize("crashes", [False, True])
def test_a_result_by_hand_must_fit_the_type_that_the_code_expects(failing: Any, crashes: bool) -> None:
    world = World(REGISTRY)
    world.start_workflow("w", "pays")
    world.advance(60)
    if crashes:
        world.crash()
    refused = ask(world, cm.ResolveActivity, number=1, value=b'"seven"')
    assert isinstance(refused, Refused)
    assert "charge" in refused.message
    assert world.state("w").status is Status.PAUSED
    assert isinstance(ask(world, cm.ResolveActivity, number=1, value=b"9", by="ann"), Accepted)
    assert world.value("w") == 9
