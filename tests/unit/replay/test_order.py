"""The order in which code resumes depends on nothing but the history."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any

import pytest

from perdure.replay.order import hash_salt

if TYPE_CHECKING:
    from tests.unit.replay.conftest import Driven


def test_tasks_and_futures_hash_the_same_in_every_process_and_differ_between_runs(
    new_run: Callable[..., Driven],
) -> None:
    def hashes(run_id: str) -> list[int]:
        loop = new_run(run_id).loop
        return [hash(loop.create_future()) for _ in range(3)]

    assert hashes("a") == hashes("a")
    assert not set(hashes("a")) & set(hashes("b"))
    assert hash_salt("a") == 2_096_131_415_895_247_872


def test_hashes_of_many_runs_do_not_collide() -> None:
    assert len({hash_salt(f"run-{number}") for number in range(10_000)}) == 10_000


def test_a_set_of_tasks_iterates_in_the_order_of_their_making(driven: Driven) -> None:
    async def program() -> list[str]:
        tasks = {asyncio.create_task(asyncio.sleep(0)) for _ in range(6)}
        return [task.get_name() for task in tasks]

    assert driven.begin(program).result() == [f"Task-{number}" for number in range(2, 8)]


def test_task_names_count_from_one_in_each_run(new_run: Callable[..., Driven]) -> None:
    async def program() -> list[str]:
        return [asyncio.create_task(asyncio.sleep(0)).get_name() for _ in range(300)]

    for _ in range(2):
        assert new_run().begin(program).result() == [f"Task-{number}" for number in range(2, 302)]


def test_as_completed_starts_coroutines_in_the_order_they_were_given(driven: Driven) -> None:
    started: list[int] = []

    async def one(number: int) -> None:
        started.append(number)

    async def program() -> None:
        for each in asyncio.as_completed([one(number) for number in range(50)]):
            await each

    driven.begin(program).result()
    assert started == list(range(50))


def test_all_tasks_gives_the_tasks_of_the_run_only(new_run: Callable[..., Driven]) -> None:
    other = new_run("other")
    other.begin(lambda: asyncio.sleep(1))

    async def program() -> list[str]:
        done = asyncio.create_task(asyncio.sleep(0))
        await done
        _ = asyncio.create_task(asyncio.sleep(1), name="mine")  # noqa: RUF006 - the loop holds it
        return sorted(task.get_name() for task in asyncio.all_tasks())

    assert new_run().begin(program).result() == ["Task-1", "mine"]


def test_outside_workflow_code_asyncio_is_as_it_was() -> None:
    async def program() -> tuple[int, Any]:
        mine = [asyncio.create_task(asyncio.sleep(0, number)) for number in range(3)]
        done, pending = await asyncio.wait(mine)
        assert not pending
        return len(asyncio.all_tasks()), sorted([await each for each in asyncio.as_completed([*done])])

    assert asyncio.run(program()) == (1, [0, 1, 2])


def test_a_task_without_a_reference_keeps_running(driven: Driven) -> None:
    ended: list[str] = []

    async def forgotten() -> None:
        await asyncio.get_running_loop().create_future()

    async def remembered() -> None:
        await driven.act()
        ended.append("yes")

    async def program() -> None:
        for coroutine in (forgotten(), remembered()):
            _ = asyncio.create_task(coroutine)  # noqa: RUF006 - the point

    driven.begin(program)
    gc.collect()
    driven.resolve(1)
    assert ended == ["yes"]
    assert [task.get_name() for task in driven.loop.live_tasks()] == ["Task-2"]


def test_ended_tasks_are_not_kept(driven: Driven) -> None:
    async def program() -> weakref.ref[asyncio.Task[None]]:
        first = weakref.ref(asyncio.create_task(asyncio.sleep(0)))
        for _ in range(200):
            await asyncio.create_task(asyncio.sleep(0))
        return first

    assert driven.begin(program).result()() is None


def test_no_garbage_is_collected_within_an_activation(driven: Driven) -> None:
    seen: list[bool] = []

    async def program() -> None:
        seen.append(gc.isenabled())

    driven.begin(program)
    assert (seen, gc.isenabled()) == ([False], True)
    gc.disable()
    try:
        driven.begin(program)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_each_run_has_a_context_of_its_own_and_each_task_a_copy(driven: Driven) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    variable.set("the engine's")
    seen: list[str] = []

    async def child() -> None:
        seen.append(variable.get())
        variable.set("the child's")

    async def program() -> None:
        seen.append(variable.get())
        variable.set("the run's")
        await asyncio.create_task(child())
        seen.append(variable.get())

    driven.begin(program)
    assert seen == ["unset", "the run's", "the run's"]
    assert variable.get() == "the engine's"


def test_the_loop_is_the_running_one_within_an_activation_only(driven: Driven) -> None:
    seen: list[object] = []

    async def program() -> None:
        seen.append(asyncio.get_running_loop())

    driven.begin(program)
    assert seen == [driven.loop]
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


def test_an_activation_within_another_loop_gives_it_back(driven: Driven) -> None:
    async def engine() -> bool:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        driven.begin(lambda: asyncio.sleep(0))
        return asyncio.get_running_loop() is loop and asyncio.current_task() is task

    assert asyncio.run(engine())


def test_a_generator_that_is_dropped_is_closed_by_a_task_of_its_run(driven: Driven) -> None:
    closed: list[str] = []

    async def generate() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            await driven.act("close")
            closed.append("yes")

    async def program() -> None:
        async for _ in generate():
            break
        await driven.act("after")

    driven.begin(program)
    assert [getattr(action, "name", "") for action in driven.wanted()] == ["after", "close"]
    driven.resolve(2)
    assert closed == ["yes"]


def test_random_and_uuid_come_from_the_seed(new_run: Callable[..., Driven]) -> None:
    def drawn(seed: int) -> tuple[float, str]:
        runtime = new_run(seed=seed).runtime
        return runtime.random().random(), str(runtime.uuid4())

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert drawn(1)[1][14] == "4"


def test_code_that_never_waits_for_anything_recorded_spins(driven: Driven) -> None:
    from perdure.replay.spinning import Spinning

    async def program() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Spinning, match="run run: more than 100,000 steps"):
        driven.begin(program)


def test_a_long_but_finite_activation_does_not_spin(driven: Driven) -> None:
    async def program() -> int:
        for _ in range(50_000):
            await asyncio.sleep(0)
        return 1

    assert driven.begin(program).result() == 1
