"""The test environment is the platform: same guard, same eviction; its time passes in order,
whatever activities do."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from perdure import activity, testing, workflow
from perdure.model.states import Status
from perdure.registry import Registry

ROUNDS = 200
"""A race between time and a report shows in some rounds of these."""
done: list[str] = []
released = threading.Event()


@activity.defn
def note(text: str) -> None:
    done.append(text)


@activity.defn
def note_slowly(text: str) -> None:
    time.sleep(0.05)
    done.append(text)


@activity.defn
async def note_async(text: str) -> None:
    done.append(text)


@activity.step
def note_step(text: str) -> None:
    done.append(text)


@activity.defn(timeout="10s", retry=activity.Retry(maximum_attempts=2))
async def hang() -> None:
    await asyncio.Event().wait()


@activity.defn(timeout="10s", retry=activity.Retry(maximum_attempts=2))
def hang_in_a_thread() -> None:
    released.wait()


@activity.step(timeout="10s", retry=activity.Retry(maximum_attempts=2))
async def hang_in_a_step() -> None:
    await asyncio.Event().wait()


@workflow.defn
async def ticks(how: str) -> None:
    while True:
        await workflow.sleep("1m")
        await {"note": note, "note_slowly": note_slowly, "note_async": note_async, "note_step": note_step}[
            how
        ]("tick")


@workflow.defn
async def limited(how: str) -> str:
    called: Callable[[], Awaitable[None]] = {
        "hang": hang, "hang_in_a_thread": hang_in_a_thread, "hang_in_a_step": hang_in_a_step
    }[how]  # fmt: skip
    try:
        await called()
    except TimeoutError as error:
        return f"gave up: {type(error).__name__}"
    return "never"


@workflow.defn
async def quick_in_time() -> str:
    async with asyncio.timeout(10):
        await note("quick")
        await note("quick")
    return "in time"


@workflow.defn
async def tidies() -> None:
    try:
        async for _ in endless():
            await workflow.sleep("1 day")
    finally:
        await note("the workflow's finally block")


async def endless() -> AsyncIterator[int]:
    try:
        while True:
            yield 1
    finally:
        await note("the generator's finally block")


@workflow.defn
async def draws() -> list[float]:
    drawn = [random.random(), random.random()]
    await workflow.sleep("1 day")
    return [*drawn, random.random()]


@workflow.defn
class ReadsAClock:
    @workflow.run
    async def run(self) -> str:
        return datetime.now().isoformat()


@workflow.defn
async def spins() -> None:
    while True:
        pass


@workflow.defn
class Box:
    def __init__(self) -> None:
        self.items: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_until(lambda: "end" in self.items)
        return self.items

    @workflow.signal
    def put(self, item: str) -> None:
        self.items.append(item)


REGISTRY = Registry.of(
    [ticks, limited, quick_in_time, tidies, draws, ReadsAClock, spins, Box],
    [note, note_slowly, note_async, note_step, hang, hang_in_a_thread, hang_in_a_step],
)


@pytest.fixture(autouse=True)
def fresh() -> None:
    done.clear()
    released.clear()


def in_the_environment(program: Callable[[testing.Environment], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with testing.Environment(REGISTRY, **options) as env:
            await program(env)

    asyncio.run(main())


@pytest.mark.parametrize("how", ["note", "note_async", "note_step"])
def test_a_finished_report_is_handled_before_time_passes(how: str) -> None:
    async def program(env: testing.Environment) -> None:
        for number in range(5):
            await env.client.start(f"{how}-{number}", ticks, how)
        await env.sleep("40m")
        await env.settle()

    in_the_environment(program)
    assert len(done) == ROUNDS


@pytest.mark.parametrize(("running", "is_reporting"), [([], True), ([], False), (["passed over"], True)])
def test_time_does_not_pass_between_the_end_of_an_attempt_and_its_report(
    running: list[str], is_reporting: bool
) -> None:
    """The moment is short: an attempt is off the list of those that run, and its report is not in
    the channel yet."""

    async def program() -> None:
        env: Any = testing.Environment(REGISTRY, patience="1h")
        env._moved = asyncio.Event()
        env._channel = SimpleNamespace(has_commands=False)
        env._worker = SimpleNamespace(running_tokens=running, is_reporting=is_reporting, is_idle=False)
        env._wired = SimpleNamespace(
            steps=SimpleNamespace(running_tokens=[], is_reporting=False, is_idle=True)
        )
        env._passed_over = {"passed over"}
        env._sleepers = {asyncio.get_running_loop().create_future(): 1}
        asyncio.get_running_loop().call_soon(env._moved.set)  # here is the report
        assert not await env._are_passed_over(1)

    asyncio.run(program())


def test_a_quick_activity_is_never_late() -> None:
    async def program(env: testing.Environment) -> None:
        for number in range(ROUNDS):
            assert await env.client.execute(f"quick-{number}", quick_in_time) == "in time"

    in_the_environment(program)


@pytest.mark.parametrize("how", ["hang", "hang_in_a_thread", "hang_in_a_step"])
def test_sleeping_reaches_the_time_limit_of_an_activity_that_hangs(how: str) -> None:
    async def program(env: testing.Environment) -> None:
        begun = env.now()
        runs = [await env.client.start(f"limited-{number}", limited, how) for number in range(ROUNDS // 2)]
        await env.sleep("9s")
        assert {state.status for state in await env.client.list(limit=ROUNDS)} == {Status.RUNNING}
        await env.sleep("1 hour")
        assert {await run.result() for run in runs} == {"gave up: ActivityTimedOut"}
        assert env.now() - begun == timedelta(hours=1, seconds=9)

    in_the_environment(program, patience="50ms")


def test_an_awaited_result_lets_time_pass_over_an_activity_that_hangs() -> None:
    async def program(env: testing.Environment) -> None:
        assert await env.client.execute("limited", limited, "hang") == "gave up: ActivityTimedOut"

    in_the_environment(program, patience="50ms")


def test_an_activity_that_works_within_the_patience_is_not_passed_over() -> None:
    async def program(env: testing.Environment) -> None:
        await env.client.start("slow", ticks, "note_slowly")
        await env.sleep("5m")
        await env.settle()
        assert len(done) == 5

    in_the_environment(program)


def test_a_crash_runs_no_block_of_a_workflow_and_handles_still_work() -> None:
    async def program(env: testing.Environment) -> None:
        await env.client.start("tidies", tidies)
        box = await env.client.start("box", Box.run)
        result = asyncio.create_task(box.result())
        await env.settle()
        await env.restart()
        gc.collect()
        await env.settle()
        assert done == []
        await box.signal(Box.put, "end")
        assert await result == ["end"]

    in_the_environment(program)
    gc.collect()
    assert done == [], "nor does the end of the environment"


def test_an_activity_that_is_cut_short_by_a_crash_runs_again() -> None:
    begun: list[int] = []

    async def once() -> None:
        begun.append(1)
        if len(begun) == 1:
            await asyncio.Event().wait()

    async def program(env: testing.Environment) -> None:
        with testing.fake(hang, once):
            run = await env.client.start("limited", limited, "hang")
            while not begun:
                await asyncio.sleep(0)
            await env.restart()
            assert await run.result() == "never"

    in_the_environment(program)
    assert len(begun) == 2


def test_random_numbers_come_from_the_run_also_after_a_crash() -> None:
    async def program(env: testing.Environment) -> None:
        run = await env.client.start("draws", draws)
        await env.settle()
        await env.restart()
        first = await run.result()
        assert len(set(first)) == 3
        assert await env.client.execute("draws-again", draws) != first

    in_the_environment(program)


@pytest.mark.parametrize(
    ("type_", "says"), [(ReadsAClock.run, "datetime.now"), (spins, "blocked the engine")]
)
def test_code_that_cannot_be_trusted_is_suspended_as_on_a_platform(type_: Any, says: str) -> None:
    async def program(env: testing.Environment) -> None:
        await env.client.start("bad", type_)
        await env.settle()
        state = await env.client.state("bad")
        assert state.status is Status.SUSPENDED
        assert says in state.reason
        assert "test_test_environment.py" in state.reason

    in_the_environment(program)


def test_a_sleeping_caller_gets_the_error_that_ended_the_engine() -> None:
    async def program(env: testing.Environment) -> None:
        await env.settle()

        def broken(timeout_s: float = 0.0) -> bool:
            raise OSError("no disk")

        env._wired.engine.run_batch = broken  # type: ignore[method-assign]
        with pytest.raises(OSError, match="no disk"):
            await env.sleep("1m")
        with pytest.raises(OSError, match="no disk"):
            await env.sleep("1m")

    in_the_environment(program)
