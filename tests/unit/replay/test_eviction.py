"""A run is forgotten without a line of its code, without noise and without a leak."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import warnings
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import pytest

from perdure.model.runtime import current
from perdure.replay import eviction
from perdure.replay.calls import evaluate

if TYPE_CHECKING:
    from tests.unit.replay.conftest import Driven

RAN: list[str] = []
Program = Callable[[], Coroutine[Any, Any, Any]]


def act(name: str) -> Any:
    runtime: Any = current()
    return runtime.schedule_activity(Named(name), (), {}, None)


class Named:
    fn = len

    def __init__(self, name: str) -> None:
        self.name = name


async def work(name: str) -> Any:
    try:
        return await act(name)
    except BaseException:
        RAN.append(f"except of {name}")
        raise
    finally:
        RAN.append(f"finally of {name}")
        await act("clean up")


async def wait_for_an_activity() -> None:
    await work("x")


async def task_group_in_its_body() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(work("1"))
        await work("2")


async def task_group_at_its_end() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(work("1"))


async def wait_for() -> None:
    await asyncio.wait_for(work("x"), 10)


async def timeout() -> None:
    async with asyncio.timeout(5):
        await work("x")


async def gather() -> None:
    await asyncio.gather(work("1"), work("2"), act("3"))


async def wait() -> None:
    await asyncio.wait([asyncio.create_task(work(str(number))) for number in range(5)])


async def as_completed() -> None:
    for each in asyncio.as_completed([work(str(number)) for number in range(5)]):
        await each


async def shield() -> None:
    await asyncio.shield(work("x"))


async def condition() -> None:
    changed = asyncio.Condition()
    async with changed:
        await changed.wait()


async def lock_that_another_wants() -> None:
    lock = asyncio.Lock()

    async def other() -> None:
        async with lock:
            RAN.append("the other got the lock")

    task = asyncio.create_task(other())
    async with lock:
        await act("x")
    await task


async def queue() -> None:
    try:
        await asyncio.Queue[int]().get()
    finally:
        RAN.append("finally")


async def sleep() -> None:
    try:
        await asyncio.sleep(100)
    finally:
        RAN.append("finally")


async def until() -> None:
    runtime: Any = current()
    try:
        await runtime.wait_until(lambda: False, 9_000_000)
    finally:
        RAN.append("finally")


class Holder:
    """An object of user code."""

    def __init__(self, **held: Any) -> None:
        self.__dict__.update(held)


class Slotted:
    __slots__ = ("held",)

    def __init__(self, held: Any) -> None:
        self.held = held


def begun() -> Generator[int, None, None]:
    """A generator that is suspended in its `try`."""

    def generate() -> Generator[int, None, None]:
        try:
            yield 1
        finally:
            RAN.append("finally of a generator")

    generator = generate()
    next(generator)
    return generator


async def generators_in_attributes() -> None:
    held = Holder(one=begun(), more=Slotted([Holder(deep=begun())]))
    await act("x")
    del held


async def generators_in_a_long_list() -> None:
    held = [begun() for _ in range(1_000)]
    await act("x")
    del held


async def generators_in_other_containers() -> None:
    listed = defaultdict[str, list[Any]](list, {"a": [begun()]})
    held = listed, OrderedDict[str, Any](b=begun()), {"c": deque([begun()])}
    await act("x")
    del held


async def generator_in_a_closure() -> None:
    generator = begun()

    def use() -> int:
        return next(generator)

    await act("x")
    use()


async def swallow_everything() -> None:
    while True:
        with contextlib.suppress(BaseException):
            await work("x")


async def swallow_on_one_future() -> None:
    future = asyncio.get_running_loop().create_future()
    while True:
        with contextlib.suppress(BaseException):
            await future


async def raise_in_finally() -> None:
    try:
        await act("a")
    finally:
        raise ValueError("in finally")


async def new_task_in_finally() -> None:
    try:
        await act("a")
    finally:
        await asyncio.create_task(work("new"))


async def coroutines_never_awaited() -> None:
    waiting = [work(str(number)) for number in range(3)]
    await act("a")
    await asyncio.gather(*waiting)


async def task_never_started() -> None:
    task = asyncio.create_task(work("x"))
    task.cancel()
    await act("a")


async def numbers() -> AsyncGenerator[int, None]:
    try:
        yield 1
        await act("within")
        yield 2
    finally:
        RAN.append("finally of the generator")
        await act("clean up")


async def within_an_async_generator() -> None:
    async for _ in numbers():
        pass


async def between_values_of_an_async_generator() -> None:
    async for _ in numbers():
        await act("between")


@contextlib.asynccontextmanager
async def resource() -> AsyncGenerator[int, None]:
    try:
        yield 1
    finally:
        RAN.append("resource released")
        await act("release")


async def within_an_async_context() -> None:
    async with resource():
        await act("x")


def plain_numbers() -> Generator[int, None, None]:
    try:
        yield 1
        yield 2
    finally:
        RAN.append("finally of the plain generator")


async def between_values_of_a_generator() -> None:
    for _ in plain_numbers():
        await act("between")


@contextlib.contextmanager
def plain_resource() -> Generator[int, None, None]:
    try:
        yield 1
    finally:
        RAN.append("plain resource released")


async def within_a_context() -> None:
    with plain_resource():
        await act("x")


async def within_an_exit_stack() -> None:
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(plain_resource())
        await stack.enter_async_context(resource())
        stack.push_async_callback(work, "callback")
        await act("x")


class Saga:
    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        RAN.append("compensated")
        await act("compensate")


async def within_a_saga() -> None:
    async with Saga():
        await act("x")


async def within_an_exception_handler() -> None:
    try:
        raise ValueError
    except ValueError:
        await work("x")


PROGRAMS: tuple[Program, ...] = (
    generators_in_attributes,
    generators_in_a_long_list,
    generators_in_other_containers,
    generator_in_a_closure,
    wait_for_an_activity, task_group_in_its_body, task_group_at_its_end, wait_for, timeout, gather, wait,
    as_completed, shield,
    condition, lock_that_another_wants, queue, sleep, until, swallow_everything, swallow_on_one_future,
    raise_in_finally,
    new_task_in_finally, coroutines_never_awaited, task_never_started, within_an_async_generator,
    between_values_of_an_async_generator, within_an_async_context, between_values_of_a_generator,
    within_a_context,
    within_an_exit_stack, within_a_saga, within_an_exception_handler,
)  # fmt: skip


@pytest.fixture(autouse=True)
def noise(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The text that would be printed on a terminal."""
    RAN.clear()
    heard: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    return heard


@pytest.mark.parametrize("program", PROGRAMS)
def test_eviction_runs_no_line_warns_of_nothing_and_leaves_no_object(
    driven: Driven, program: Program, noise: list[Any]
) -> None:
    task = driven.begin(program)
    driven.loop.run()
    before = list(RAN)
    actions = driven.wanted()
    coroutine = weakref.ref(task.get_coro()) if not task.done() else None
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        eviction.evict(driven.loop)
        assert coroutine is None or coroutine() is None, "freed immediately, without the garbage collector"
        del task
        gc.collect()
    assert actions != [] or program in {condition, queue, until, swallow_on_one_future}
    assert before == RAN
    assert (driven.loop.actions.items, driven.logged, noise, warned) == ([], [], [], [])
    assert driven.loop.live_tasks() == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_where_coroutines_must_be_closed_their_blocks_have_no_effect(
    driven: Driven, program: Program, monkeypatch: pytest.MonkeyPatch, noise: list[Any]
) -> None:
    monkeypatch.setattr(eviction, "_CAN_MARK", False)
    driven.begin(program)
    driven.loop.run()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        eviction.evict(driven.loop)
        driven.loop.run()
    assert (driven.loop.actions.items, driven.logged, noise, warned) == ([], [], [], [])
    assert (driven.loop.live_tasks(), driven.runtime.activities.waiting) == ([], {})
    monkeypatch.undo()
    gc.collect()


def test_this_python_frees_without_running(noise: list[Any]) -> None:
    assert eviction._CAN_MARK


def test_code_of_an_evicted_run_has_no_effect(driven: Driven) -> None:
    driven.begin(wait_for_an_activity)
    eviction.evict(driven.loop)
    assert driven.loop.is_closed()
    assert not driven.resolve(1)
    assert not driven.fire(1)
    assert driven.wanted() == []


def test_other_runs_continue(new_run: Callable[..., Driven]) -> None:
    kept, evicted = new_run("kept"), new_run("evicted")

    async def program() -> str:
        return str(await act("x"))

    task = kept.begin(program)
    evicted.begin(program)
    eviction.evict(evicted.loop)
    kept.resolve(1, "answer")
    assert task.result() == "answer"


def test_eviction_under_pressure_of_the_collector_leaves_nothing(new_run: Callable[..., Driven]) -> None:
    thresholds, driven = gc.get_threshold(), None
    gc.set_threshold(50, 2, 2)
    try:
        for round_ in range(10):
            for program in PROGRAMS:
                driven = new_run(f"run-{round_}")
                driven.begin(program)
                eviction.evict(driven.loop)
    finally:
        gc.set_threshold(*thresholds)
    del driven
    gc.collect()
    # By file, not by name: `Event.wait` of another test's loop in this process has the name of a
    # program.
    left: list[object] = [
        each
        for each in gc.get_objects()
        if type(each) is CoroutineType and each.cr_code.co_filename == __file__
    ]
    assert left == []


def test_async_generator_hooks_leave_other_loops_alone() -> None:
    async def generate() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            RAN.append("closed")

    async def program() -> None:
        async for _ in generate():
            break
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(program())
    assert RAN == ["closed"]


def test_an_async_generator_that_a_query_drops_is_not_noticed_on_stderr(
    driven: Driven, monkeypatch: pytest.MonkeyPatch
) -> None:
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    closed: list[str] = []

    async def numbers() -> AsyncGenerator[int]:
        try:
            yield 1
        finally:
            closed.append("its code ran")

    def query() -> int:
        generator = numbers()
        try:
            generator.__anext__().send(None)
        except StopIteration as first:
            return int(first.value)
        return 0

    assert evaluate(driven.loop, query) == 1
    assert driven.loop.is_spoilt, "a replay brings the run back"
    assert (unraisable, closed) == ([], [])
