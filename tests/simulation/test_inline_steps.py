"""Inline steps: what crashes, other code and failures make of them, counted in the world."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from perdure import activity, workflow
from perdure.activity import Retry
from perdure.errors import ActivityFailed, Failure, NotDone, OutcomeUnknown
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.registry import Registry
from tests.simulation.bank import assert_paid_at_most_once, pay
from tests.simulation.programs import BANK
from tests.simulation.world import World


@pytest.fixture(autouse=True)
def empty_bank() -> Iterator[None]:
    BANK.calls.clear()
    yield
    BANK.calls.clear()


def charged(crash_at: list[int], *, joins_steps: bool = True, loses_store: bool = False) -> tuple[World, int]:
    return pay("charged_once", crash_at, joins_steps=joins_steps, loses_store=loses_store)


@pytest.mark.parametrize("joins_steps", [True, False])
def test_a_step_at_most_once_runs_once_whatever_the_point_of_a_crash(joins_steps: bool) -> None:
    def crashed(points: list[int]) -> tuple[World, int]:
        return charged(points, joins_steps=joins_steps, loses_store=points[0] % 2 == 0)

    assert_paid_at_most_once(lambda points: charged(points, joins_steps=joins_steps), crashed)


def test_two_crashes_do_not_run_a_step_at_most_once_twice() -> None:
    _, count = charged([])
    for point in range(1, count + 1):
        for next_one in range(1, 6):
            world, _ = charged([point, point + next_one])
            assert BANK.calls["blind"] <= 1, (point, next_one)
            assert BANK.calls["seen"] == 1, (point, next_one)
            assert world.value("w")[1] == 7


# ---- what else may become of a step


def world_of(*workflows: Any) -> World:
    return World(Registry.of(list(workflows), []))


RAN: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    RAN.clear()


def note(name: str) -> str:
    RAN[name] += 1
    return name


@workflow.defn
async def two_steps() -> list[str]:
    first = await workflow.step("note", note, "first")
    await workflow.sleep("10s")
    return [first, await workflow.step("note", note, "second")]


def test_replay_takes_the_recorded_result_and_runs_nothing() -> None:
    world = world_of(two_steps)
    world.start_workflow("w", "two_steps")
    for _ in range(3):
        world.crash()
        world.settle()
    world.advance(10)
    assert world.value("w") == ["first", "second"]
    assert RAN == {"first": 1, "second": 1}
    scheduled = [each for each in world.events("w") if isinstance(each, ev.ActivityScheduled)]
    assert [(each.name, each.options.use, each.input) for each in scheduled] == [
        ("note", 1, b"[]"),
        ("note", 2, b"[]"),
    ]


def other(step: str, *, at: int) -> Any:
    """`two_steps` with another name at one place."""

    @workflow.defn(name="two_steps")
    async def changed() -> list[str]:
        first = await workflow.step(step if at == 1 else "note", note, "first")
        await workflow.sleep("10s")
        second = await workflow.step(step if at == 2 else "note", note, "second")
        await workflow.sleep("10s")
        return [first, second]

    return changed


@pytest.mark.parametrize("at", [1, 2])
def test_another_name_at_a_recorded_place_suspends_the_run_and_says_which_use(at: int) -> None:
    world = world_of(other("note", at=2))
    world.start_workflow("w", "two_steps")
    world.advance(10)
    world.deploy(Registry.of([other("changed", at=at)], []))
    world.settle()
    world.advance(10)
    reason = world.state("w").reason
    expected = f"step 'note' ({['1st', '2nd'][at - 1]} use) scheduled"
    assert f"the history holds {expected}, but the code wanted: step 'changed' (1st use) scheduled" in reason
    assert sum(RAN.values()) == 2
    world.deploy(Registry.of([other("note", at=2)], []))
    world.settle()
    assert world.value("w") == ["first", "second"]


def test_a_step_that_was_registered_is_not_an_inline_one() -> None:
    @activity.step
    async def charge() -> str:
        return "step"

    @workflow.defn(name="pays")
    async def before() -> str:
        found = await charge()
        await workflow.sleep("5s")
        return found

    @workflow.defn(name="pays")
    async def after() -> str:
        found = await workflow.step("charge", note, "inline")
        await workflow.sleep("5s")
        return found

    world = World(Registry.of([before], [charge]))
    world.start_workflow("w", "pays")
    world.deploy(Registry.of([after], [charge]))
    world.advance(5)
    assert (
        "activity 1 'charge' scheduled, but the code wanted: step 'charge' (1st use)"
        in world.state("w").reason
    )


@workflow.defn
async def cancels() -> list[Any]:
    started = asyncio.ensure_future(workflow.step("long", note, "long"))
    await workflow.sleep("1s")
    started.cancel()
    try:
        await started
    except asyncio.CancelledError:
        return ["cancelled", await workflow.step("long", note, "again")]
    return ["not cancelled"]


def test_cancelling_the_await_cancels_the_step() -> None:
    world = World(Registry.of([cancels], []), joins_steps=False)
    world.ask(cm.StartWorkflow, "w", type="cancels", input=b"[]")
    world.engine.run_batch(0)
    assert len(world.steps) == 1
    world.clock.at += 1_000_000
    world.engine.run_batch(0)
    assert "ActivityCancelRequested" in world.names("w")
    assert [each.task.number for each in world.steps] == [2]
    world.settle()
    assert world.value("w") == ["cancelled", "again"]
    assert RAN == {"again": 1}


@dataclass
class Declined(Failure):
    code: int


def declines() -> None:
    raise Declined(7)


def raises() -> None:
    raise ValueError("no")


@workflow.defn
async def fails() -> list[Any]:
    found: list[Any] = []
    try:
        await workflow.step("declines", declines)
    except Declined as error:
        found.append(error.code)
    choices: list[dict[str, Any]] = [
        {"retry": Retry(maximum_attempts=3, first_interval="1s")},
        {"at_most_once": True},
    ]
    for options in choices:
        try:
            await workflow.step("raises", raises, **options)
        except ActivityFailed as error:
            found.append([error.attempts, type(error.cause).__name__])
    return found


def test_exceptions_are_retried_and_final_as_those_of_activities() -> None:
    world = world_of(fails)
    world.start_workflow("w", "fails")
    world.advance(10)
    assert world.value("w") == [7, [3, "ValueError"], [1, "ValueError"]]


class Lookup:
    """Answers in turn."""

    answers: ClassVar[list[Any]] = []

    @classmethod
    def ask(cls) -> str:
        answer = cls.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return str(answer)


@workflow.defn
async def looks_up() -> str:
    try:
        return await workflow.step("pay", note, "paid", at_most_once=True, reconcile=Lookup.ask)
    except OutcomeUnknown as error:
        return f"unknown: {error}"


def interrupted(type: str, *workflows: Any) -> World:
    """The engine is gone after the step has run, before its result is recorded."""
    world = World(Registry.of(list(workflows), []), joins_steps=False)
    world.ask(cm.StartWorkflow, "w", type=type, input=b"[]")
    world.engine.run_batch(0)
    assert len(world.steps) == 1
    note("paid")
    world.crash()
    return world


@pytest.mark.parametrize(
    ("answers", "result", "runs"),
    [
        (["known"], "known", 1),
        ([ConnectionError("down"), ConnectionError("down"), "known"], "known", 1),
        ([ConnectionError("down"), NotDone()], "paid", 2),
        ([OutcomeUnknown("ask a person")], "unknown: ask a person", 1),
    ],
)
def test_the_outcome_of_an_interrupted_step_is_looked_up(answers: list[Any], result: str, runs: int) -> None:
    Lookup.answers = list(answers)
    world = interrupted("looks_up", looks_up)
    world.settle()
    world.advance(100)
    assert world.value("w") == result
    assert RAN["paid"] == runs
    assert Lookup.answers == []


def test_a_result_that_cannot_be_recorded_leaves_a_step_at_most_once_unknown() -> None:
    def odd() -> object:
        RAN["odd"] += 1
        return object()

    @workflow.defn
    async def gives_odd() -> str:
        try:
            await workflow.step("odd", odd, at_most_once=True)
        except OutcomeUnknown as error:
            return str(error)
        return "known"

    world = world_of(gives_odd)
    world.start_workflow("w", "gives_odd")
    assert "step 'odd': it ended with what cannot be recorded" in world.value("w")
    assert RAN["odd"] == 1


def test_a_result_that_cannot_be_recorded_suspends_the_run_until_the_code_is_fixed() -> None:
    def gives(value: Callable[[], object]) -> Any:
        @workflow.defn(name="gives")
        async def gives() -> str:
            return str(await workflow.step("gives", value))

        return gives

    world = world_of(gives(object))
    world.start_workflow("w", "gives")
    assert world.state("w").status == "suspended"
    assert "step 'gives'" in world.state("w").reason
    world.advance(200)  # attempts continue, and change nothing
    assert world.state("w").status == "suspended"
    world.deploy(Registry.of([gives(lambda: "fixed")], []))
    world.settle()
    assert world.value("w") == "fixed"


def test_a_step_of_a_suspended_run_waits_for_its_code_and_is_not_a_failed_attempt() -> None:
    world = World(Registry.of([two_steps], []), joins_steps=False)
    world.ask(cm.StartWorkflow, "w", type="two_steps", input=b"[]")
    world.engine.run_batch(0)
    world.deploy(Registry.of([looks_up], []))  # nobody knows the type
    world.settle()
    assert world.state("w").status == "suspended"
    assert RAN == {}
    world.deploy(Registry.of([two_steps], []))
    world.settle()
    world.advance(10)
    assert world.value("w") == ["first", "second"]
    assert RAN == {"first": 1, "second": 1}
    assert "ActivityAttemptFailed" not in world.names("w")


@workflow.defn
class Asks:
    @workflow.run
    async def go(self) -> None:
        await workflow.wait_until(lambda: False)

    @workflow.query
    def pay(self) -> object:
        return workflow.step("pay", note, "paid")


def test_a_query_may_not_call_a_step() -> None:
    world = world_of(Asks)
    world.start_workflow("w", "Asks")
    request_id = world.ask(cm.QueryWorkflow, "w", name="pay", input=b"[]")
    world.settle()
    assert "the step 'pay' is called in a query, a view or a condition" in str(world.replies[request_id])
    assert RAN == {}


@workflow.defn
async def forgets() -> None:
    workflow.step("pay", note, "paid")  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    await workflow.sleep("1s")


def test_a_step_that_is_not_awaited_suspends_the_run() -> None:
    world = world_of(forgets)
    world.start_workflow("w", "forgets")
    reason = world.state("w").reason
    assert "the call of the step 'pay' was never awaited" in reason
    assert "test_inline_steps.py" in reason
    assert RAN == {}
