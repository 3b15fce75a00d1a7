"""Programs over every helper of asyncio, run under several schedules; prints a digest of what each
did, as JSON.

A script, for any Python: `python determinism_corpus.py [leak]`. Two processes must print the same,
whatever their hash seed, their heap and the other runs they hold. `leak` adds a program that is not
deterministic, to show that it would be seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import hashlib
import json
import os
import random
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from types import SimpleNamespace
from typing import Any, Final

from perdure.model.actions import CancelActivity, CancelTimer, ScheduleActivity, StartTimer
from perdure.model.options import ActivityOptions
from perdure.model.runtime import current
from perdure.replay import eviction
from perdure.replay.loop import RunLoop
from perdure.replay.runtime import RunRuntime

OPTIONS: Final = ActivityOptions()
SCHEDULES: Final = 5
MANY: Final = 12
LARGEST_SALT: Final = 100
Program = Callable[[], Coroutine[Any, Any, Any]]


def act(name: object, *args: object) -> Any:
    """Schedule an activity; its result is its name."""
    runtime: Any = current()
    return runtime.schedule_activity(SimpleNamespace(name=str(name), fn=act), args, {}, OPTIONS)


async def work(name: object) -> Any:
    return await act(name)


async def work_and_undo(name: object) -> Any:
    try:
        return await act(name)
    except asyncio.CancelledError:
        await act(f"undo-{name}")
        raise


async def fail(name: object) -> None:
    await act(name)
    raise ValueError(name)


def workers(make: Callable[[object], Coroutine[Any, Any, Any]] = work) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(make(number)) for number in range(MANY)]


async def wait_first_completed() -> None:
    waiting = set(workers())
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            await act("seen", task.get_name(), task.result())


async def wait_first_exception() -> None:
    done, waiting = await asyncio.wait(
        [*workers(), asyncio.create_task(fail("x"))], return_when=asyncio.FIRST_EXCEPTION
    )
    for task in (*done, *waiting):
        await act("seen", task.get_name(), task.done())
    await asyncio.wait(waiting or done)


async def wait_with_timeout_then_cancel() -> None:
    _, waiting = await asyncio.wait(set(workers(work_and_undo)), timeout=1)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def as_completed_of_coroutines() -> None:
    for each in asyncio.as_completed([work(number) for number in range(MANY)]):
        await act("got", await each)


async def as_completed_of_tasks_with_timeout() -> None:
    try:
        for each in asyncio.as_completed(workers(), timeout=3):
            await act("got", await each)
    except TimeoutError:
        await act("late")


async def task_group_aborts() -> None:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work_and_undo(number)) for number in range(MANY)]
            group.create_task(fail("boom"))
            await tasks[0]
    except* ValueError as caught:
        await act("caught", len(caught.exceptions))


async def gather_in_order() -> Any:
    return await asyncio.gather(*(work(number) for number in range(MANY)))


async def gather_of_a_set_of_futures() -> Any:
    return await asyncio.gather(*{act(number) for number in range(MANY)})


async def gather_that_is_cancelled() -> None:
    gathered = asyncio.gather(*workers(work_and_undo), return_exceptions=False)
    await asyncio.sleep(2)
    gathered.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await gathered


async def shield_outlives_its_wait() -> Any:
    task = asyncio.create_task(work_and_undo("shielded"))
    try:
        await asyncio.wait_for(asyncio.shield(task), 5)
    except TimeoutError:
        await act("late")
    return await task


async def all_tasks_are_cancelled() -> None:
    tasks = workers(work_and_undo)
    await asyncio.sleep(0)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def few_of_many_tasks_are_left() -> None:
    """Hashes that collide in a small set: the order in it is then that of insertion."""
    for number in range(40):
        await asyncio.create_task(asyncio.sleep(0, number))
        if number % 8 == 0:
            _ = asyncio.create_task(work(number), name=f"left-{number}")  # noqa: RUF006 - the loop holds it
    for task in asyncio.all_tasks():
        await act("there is", task.get_name())


async def wait_for_races() -> Any:
    async def one(number: int) -> Any:
        try:
            return await asyncio.wait_for(work(number), 3 + number % 2)
        except TimeoutError:
            return await act(f"late-{number}")

    return await asyncio.gather(*map(one, range(6)))


async def wait_for_is_cancelled() -> None:
    task = asyncio.create_task(asyncio.wait_for(work_and_undo("x"), 100))
    await asyncio.sleep(1)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        await act("cancelled")


async def timeouts_nested_and_moved() -> None:
    async def one(number: int) -> Any:
        try:
            async with asyncio.timeout(4) as outer, asyncio.timeout(3):
                await act(number)
                outer.reschedule(asyncio.get_running_loop().time() + number)
                return await act(f"more-{number}")
        except TimeoutError:
            return await act(f"late-{number}")

    async with asyncio.TaskGroup() as group:
        for number in range(6):
            group.create_task(one(number))


async def locks_and_queues() -> None:
    lock, semaphore, condition = asyncio.Lock(), asyncio.BoundedSemaphore(2), asyncio.Condition()
    queue: asyncio.Queue[int] = asyncio.Queue(2)
    ranked: asyncio.PriorityQueue[int] = asyncio.PriorityQueue()
    event, barrier = asyncio.Event(), asyncio.Barrier(3)

    async def produce(number: int) -> None:
        async with semaphore:
            await act(f"semaphore-{number}")
        async with lock:
            await act(f"lock-{number}")
        await queue.put(number)
        ranked.put_nowait(-number)
        async with condition:
            condition.notify_all()
        await barrier.wait()
        await act(f"barrier-{number}")
        event.set()

    async def consume() -> None:
        for _ in range(6):
            await act("queue", await queue.get(), await ranked.get())

    async def notice() -> None:
        async with condition:
            await condition.wait()
        await act("condition")

    await asyncio.gather(*map(produce, range(6)), consume(), notice(), event.wait())


async def conditions_share_one_resource() -> None:
    runtime: Any = current()
    free = [True]

    async def use(number: int) -> None:
        if not await runtime.wait_until(lambda: free[0], 3_000_000 + number):
            await act("gave up", number)
            return
        free[0] = False
        await act("use", number)
        free[0] = True

    await asyncio.gather(*map(use, range(8)))


async def generators_are_closed() -> None:
    async def numbers() -> AsyncGenerator[Any, None]:
        try:
            for number in range(5):
                yield await act(number)
        finally:
            await act("closed")

    async for _ in numbers():
        break
    await act("after")
    async with contextlib.aclosing(numbers()) as more:
        await anext(more)
    await asyncio.sleep(0)


async def context_random_and_names() -> None:
    runtime: Any = current()
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)

    async def one(number: int) -> None:
        variable.set(variable.get() + number)
        await act("sum", variable.get(), runtime.random().random(), runtime.uuid4())
        await asyncio.sleep(runtime.random().random())
        task = asyncio.current_task()
        await act(task.get_name() if task else "", asyncio.get_running_loop().time())

    for number in range(4):
        _ = asyncio.create_task(one(number))  # noqa: RUF006 - the loop holds it
    await act("last")


async def leak() -> None:
    names = {"alpha", "beta", "gamma", "delta", "epsilon", "zeta"}
    for name in names:
        await act(name)


PROGRAMS: Final[tuple[Program, ...]] = (
    wait_first_completed, wait_first_exception, wait_with_timeout_then_cancel, as_completed_of_coroutines,
    as_completed_of_tasks_with_timeout, task_group_aborts, gather_in_order, gather_of_a_set_of_futures,
    gather_that_is_cancelled,
    shield_outlives_its_wait, all_tasks_are_cancelled, few_of_many_tasks_are_left, wait_for_races,
    wait_for_is_cancelled,
    timeouts_nested_and_moved, locks_and_queues, conditions_share_one_resource, generators_are_closed,
    context_random_and_names,
)  # fmt: skip


class ReprPayloads:
    """Payloads that only need to be compared."""

    def encode_arguments(self, fn: object, args: tuple[Any, ...], kwargs: object, *, what: str) -> bytes:
        return repr((what, args, kwargs)).encode()


def new_run(program: Program, run_id: str) -> tuple[RunLoop, asyncio.Task[Any]]:
    payloads: Any = ReprPayloads()
    nobody: Any = None
    loop = RunLoop(run_id)
    RunRuntime(loop, 7, payloads, nobody)
    loop.now = 1_700_000_000_123_456
    return loop, loop.create_task(program())


def trace(program: Program, schedule: int) -> list[str]:
    """Let the program run to its end, the outcomes in a seeded order; all that it wanted and
    got."""
    dice = random.Random(schedule)
    loop, main = new_run(program, "one run")
    runtime: Any = loop.runtime
    seen: list[str] = []
    activities: dict[int, ScheduleActivity] = {}
    timers: dict[int, StartTimer] = {}
    while True:
        loop.run()
        for action in loop.actions.take():
            seen.append(repr(action))
            match action:
                case ScheduleActivity():
                    activities[action.number] = action
                case StartTimer():
                    timers[action.number] = action
                case CancelActivity():
                    activities.pop(action.number, None)
                case CancelTimer():
                    timers.pop(action.number, None)
                case _:
                    pass
        if not activities and not timers:
            break
        if activities and (not timers or dice.random() < 0.7):
            activity = activities.pop(dice.choice(list(activities)))
            seen.append(f"{activity.name} done: {runtime.resolve_activity(activity.number, activity.name)}")
        else:
            timer = min(timers.values(), key=lambda each: (each.fires_at, each.number))
            del timers[timer.number]
            loop.now = max(loop.now, timer.fires_at)
            seen.append(f"fired: {loop.fire_timer(timer.number)}")
    assert main.done(), f"{program.__name__} never ends under schedule {schedule}: {seen[-5:]}"
    error = None if main.cancelled() else main.exception()
    seen.append("cancelled" if main.cancelled() else repr(error if error is not None else main.result()))
    eviction.evict(loop)
    return seen


def main() -> None:
    """Another heap and other runs in every process; the same digests."""
    eviction.install_hooks()
    junk: list[Any] = [
        bytearray(os.urandom(1)[0] * 7) for _ in range(int.from_bytes(os.urandom(2), "little") // 8)
    ]
    del junk[::3]
    others = [
        new_run(all_tasks_are_cancelled, f"other {number}")[0]
        for number in range(os.urandom(1)[0] % LARGEST_SALT)
    ]
    for other in others:
        other.run()
    programs = (*PROGRAMS, leak) if "leak" in sys.argv else PROGRAMS
    digests = {
        f"{program.__name__}/{schedule}": hashlib.sha256(
            "\n".join(trace(program, schedule)).encode()
        ).hexdigest()[:16]
        for program in programs
        for schedule in range(SCHEDULES)
    }
    for other in others:
        eviction.evict(other)
    print(json.dumps(digests))


if __name__ == "__main__":
    main()
