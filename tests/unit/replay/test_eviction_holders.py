"""Wherever a run keeps something suspended, eviction runs none of its code."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import heapq
import itertools
import sys
import types
import warnings
import weakref
from collections import ChainMap, UserDict
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from perdure.model.runtime import current
from perdure.replay import eviction

if TYPE_CHECKING:
    from tests.unit.replay.conftest import Driven

RAN: list[str] = []
VARIABLE: contextvars.ContextVar[Any] = contextvars.ContextVar("VARIABLE")


class Named:
    fn = len
    name = "x"


def act() -> Any:
    runtime: Any = current()
    return runtime.schedule_activity(Named(), (), {}, None)


def numbers() -> Generator[int, None, None]:
    try:
        yield 1
        yield 2
    finally:
        RAN.append("finally of a generator")


def begun() -> Generator[int, None, None]:
    """A generator that is suspended in its `try`."""
    generator = numbers()
    next(generator)
    return generator


class Holder:
    def __init__(self, **held: Any) -> None:
        self.__dict__.update(held)


@dataclass(slots=True)
class Slots:
    held: Any


class Pair(NamedTuple):
    held: Any


class Mine(list[Any]):
    pass


class Cached:
    @functools.cached_property
    def held(self) -> Any:
        return begun()


class Deleted:
    def __del__(self) -> None:
        RAN.append("__del__")


def with_default(given: Any = None, held: Any = None) -> Any:
    return given, held


def default() -> Any:
    def function(held: Any = begun()) -> Any:  # noqa: B008 - what is tried
        return held

    return function


def keyword_default() -> Any:
    def function(*, held: Any = begun()) -> Any:  # noqa: B008
        return held

    return function


def attribute_of_a_function() -> Any:
    def function() -> None:
        pass

    vars(function)["held"] = begun()
    return function


def closure() -> Any:
    held = begun()
    return lambda: next(held)


def cached_function() -> Any:
    @functools.lru_cache
    def function() -> Any:
        return begun()

    function()
    return function


def cached_property() -> Any:
    cached = Cached()
    assert cached.held
    return cached


def context() -> Any:
    copied = contextvars.copy_context()
    copied.run(VARIABLE.set, begun())
    return copied


def frame_of_an_exception() -> Any:
    def function() -> None:
        held = begun()
        raise ValueError(str(type(held)))

    try:
        function()
    except ValueError as error:
        return error


def queue() -> Any:
    made = asyncio.Queue[Any]()
    made.put_nowait(begun())
    return made


def result_of_a_future() -> Any:
    future = asyncio.get_running_loop().create_future()
    future.set_result(begun())
    return future


def callback_of_a_future() -> Any:
    future = asyncio.get_running_loop().create_future()
    future.add_done_callback(functools.partial(with_default, held=begun()))
    return future


def local_class() -> Any:
    class Local:
        held = begun()

    return Local()


def teed() -> Any:
    made = itertools.tee(numbers())
    next(made[0])
    return made


def behind_much_data() -> Any:
    return {n: Holder(a=[n], b=Holder(c=str(n), d=[])) for n in range(9_000)}, begun()


def in_a_huge_list() -> Any:
    held: list[Any] = [None] * 20_000
    held[7] = begun()
    return held


def behind_a_namespace() -> Any:
    return types.SimpleNamespace(held=begun())


HELD: tuple[Callable[[], Any], ...] = (
    lambda: Slots(begun()),
    lambda: Pair(begun()),
    lambda: Mine([begun()]),
    lambda: UserDict(held=begun()),
    lambda: ChainMap({"held": begun()}),
    lambda: types.MappingProxyType({"held": begun()}),
    lambda: {begun(): 1},
    lambda: {1: begun()}.values(),
    lambda: frozenset([begun()]),
    lambda: functools.partial(next, begun()),
    lambda: functools.partialmethod(next, begun()),
    lambda: begun().__next__,
    lambda: begun().send,
    lambda: iter(begun().__next__, 5),
    lambda: ValueError(begun()),
    lambda: Holder(deep=Holder(deeper=[Holder(deepest=begun())])),
    Deleted,
    lambda: [Deleted()],
    default, keyword_default, attribute_of_a_function, closure, cached_function, cached_property, context,
    frame_of_an_exception, queue, result_of_a_future, callback_of_a_future, local_class, teed,
    behind_much_data, in_a_huge_list, behind_a_namespace,
)  # fmt: skip
ITERATED: tuple[Callable[[], Iterable[Any]], ...] = (
    lambda: enumerate(numbers()),
    lambda: zip(numbers(), numbers(), strict=True),
    lambda: map(str, numbers()),
    lambda: filter(None, numbers()),
    lambda: itertools.chain(numbers(), [1]),
    lambda: itertools.islice(numbers(), 5),
    lambda: itertools.groupby(numbers()),
    lambda: heapq.merge(numbers(), numbers()),
    lambda: (each for each in numbers()),
    lambda: reversed([begun()]),
    lambda: [begun(), begun()],
    lambda: {1: begun(), 2: begun()}.items(),
)


@pytest.fixture(autouse=True)
def _silence(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    RAN.clear()
    noise: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", noise.append)
    yield
    assert noise == []


def evicted(driven: Driven, program: Callable[[], Any]) -> list[str]:
    """The code that ran because of the eviction."""
    task: Any = driven.begin(program)
    driven.loop.run()
    assert not task.done()
    before = len(RAN)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        eviction.evict(driven.loop)
        del task
        gc.collect()
    assert warned == []
    return RAN[before:]


@pytest.mark.parametrize("make", HELD, ids=lambda make: make.__name__)
def test_what_holds_something_suspended(driven: Driven, make: Callable[[], Any]) -> None:
    async def program() -> None:
        held = make()
        await act()
        del held

    assert evicted(driven, program) == []


@pytest.mark.parametrize("make", ITERATED)
def test_a_loop_over_something_suspended(driven: Driven, make: Callable[[], Iterable[Any]]) -> None:
    async def program() -> None:
        for _ in make():
            await act()

    assert evicted(driven, program) == []


def test_a_context_of_a_task(driven: Driven) -> None:
    async def program() -> None:
        VARIABLE.set(begun())
        await act()

    assert evicted(driven, program) == []


def test_callbacks_of_an_exit_stack(driven: Driven) -> None:
    async def program() -> None:
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(RAN.append, "the callback")
            stack.callback(with_default, begun())
            await act()

    assert evicted(driven, program) == []


def test_what_is_closed_at_the_end_of_a_block(driven: Driven) -> None:
    async def generate() -> AsyncGenerator[int]:
        try:
            yield 1
        finally:
            RAN.append("finally of an async generator")

    async def program() -> None:
        with contextlib.closing(begun()):
            async with contextlib.aclosing(generate()) as generator:
                async for _ in generator:
                    await act()

    assert evicted(driven, program) == []


def test_conditions_and_callbacks_of_the_loop(driven: Driven) -> None:
    async def program() -> None:
        runtime: Any = current()
        asyncio.get_running_loop().call_later(5, with_default, begun())
        held: Any = begun()
        await runtime.wait_until(lambda: held is None, None)

    assert evicted(driven, program) == []


def test_weak_references_and_finalizers_run_no_code_but_weak_dictionaries_forget(driven: Driven) -> None:
    table: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
    references: list[Any] = []

    async def program() -> None:
        held = Holder(n=1)
        weakref.finalize(held, RAN.append, "finalized")
        references.append(weakref.ref(held, lambda _: RAN.append("called")))
        table["held"] = held
        await act()

    assert evicted(driven, program) == []
    assert [reference() for reference in references] == [None]
    assert dict(table) == {}


def test_the_instance_whose_code_has_ended_its_frames(driven: Driven) -> None:
    instance: list[Any] = [Holder(held=begun())]

    async def program() -> None:
        await act()

    driven.begin(program)
    driven.loop.run()
    eviction.evict(driven.loop, instance[0])
    instance.clear()
    gc.collect()
    assert RAN == []


def test_many_tasks_that_share_an_instance_are_looked_through_once(
    driven: Driven, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(gc, name)

        def get_referents(self, thing: object) -> list[object]:
            looked.append(1)
            return gc.get_referents(thing)

    async def program() -> None:
        shared = [Holder(n=n) for n in range(1_000)]

        async def handler() -> None:
            await act()
            shared.clear()

        await asyncio.gather(*(handler() for _ in range(100)))

    task = driven.begin(program)
    driven.loop.run()
    monkeypatch.setattr(eviction, "gc", Counting())
    eviction.evict(driven.loop)
    del task
    assert len(looked) < 10_000


def test_classes_that_runs_define_are_not_kept(driven: Driven) -> None:
    before = len(eviction._SORTS)

    async def program() -> None:
        class Local:
            pass

        held = Local()
        await act()
        del held

    evicted(driven, program)
    assert len(eviction._SORTS) == before
