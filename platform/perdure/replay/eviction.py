# ruff: noqa: SLF001 - there is no public way to free a coroutine without running its code
"""Drops a run without running any of its code.

Closing a suspended coroutine, or just dropping it, throws GeneratorExit into it: your `finally` and
`except` blocks would run, compensations of a saga among them, although the run has not ended. So
each suspended coroutine is first marked as already
finalised: one bit that CPython keeps in front of the object so that a finaliser runs once. An
    object that carries it is freed
without a word. `gc.is_finalized` is the public way to read the bit; that setting it works is tried
out when this module is imported. Where it does not (free-threaded builds, another Python),
coroutines are closed on an inert loop: their blocks run, but nothing they do has any effect.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import sys
import sysconfig
import types
import warnings
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from perdure.model.source import is_ours
from perdure.replay.activation import enter, leave, running_loop
from perdure.replay.loop import RunLoop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Generator, Sized

_SUSPENDABLE: Final = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)
_CONTAINERS: Final = frozenset((list, tuple, dict, set, deque, defaultdict, OrderedDict))
_LARGEST_CONTAINER: Final = 10_000
"""Larger ones are data; to look through one takes a millisecond for every 50,000 entries."""
_MOST_OBJECTS: Final = 10_000
_HEAP_TYPE: Final = 1 << 9
"""Py_TPFLAGS_HEAPTYPE: of a class that is written in Python, among others."""
_word = ctypes.c_size_t.from_address
_future: Any = asyncio.Future
_task: Any = asyncio.Task
_init_future: Callable[..., None] = _future.__init__
_init_task: Callable[..., None] = _task.__init__


def evict(loop: RunLoop) -> None:
    """Drop the run: its memory is freed as soon as the caller releases the loop and its objects.

    A `__del__` of yours own runs as it always does, when its object is freed.
    """
    entered = enter(loop)
    unraisable_hook, sys.unraisablehook = sys.unraisablehook, _ignore
    warn, warnings._warn_unawaited_coroutine = warnings._warn_unawaited_coroutine, _ignore  # type: ignore[attr-defined]
    inert: Any = loop
    try:
        runtime: Any = loop.runtime
        tasks, futures = loop.release(), runtime.release()
        for future in futures:
            _init_future(future, loop=inert)
        for task in tasks:
            _end(task, loop)
    finally:
        warnings._warn_unawaited_coroutine = warn  # type: ignore[attr-defined]
        sys.unraisablehook = unraisable_hook
        leave(entered)


def _end(task: Any, loop: Any) -> None:
    """Free the coroutine of the task.

    Initialising a future or a task again drops its callbacks and its coroutine, so that no
    reference cycle is left which would wait for the garbage collector.
    """
    coroutine = task.get_coro()
    if not _CAN_MARK:
        _close(coroutine)
    elif not gc.is_finalized(coroutine):
        _mark_all(coroutine)
    waiter = task._fut_waiter
    if waiter is not None and not waiter.done():
        _init_future(waiter, loop=loop)
    _init_task(task, _CLOSED, loop=loop)
    task._log_destroy_pending = False


def _mark_all(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Mark the coroutine and all that can be suspended within it: what it awaits, generators and
    context managers in its frames, in containers and in attributes of your objects.
    """
    seen: set[int] = set()
    todo: list[object] = [coroutine]
    while todo and len(seen) < _MOST_OBJECTS:
        thing = todo.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        kind = type(thing)
        if kind not in _FOLLOWED and not _learn(kind):
            continue
        if kind in _SUSPENDABLE:
            _mark(thing)
        elif kind in _CONTAINERS and len(cast("Sized", thing)) > _LARGEST_CONTAINER:
            continue
        referents: list[object] = gc.get_referents(thing)
        todo += [found for found in referents if type(found) not in _LEFT]


def _learn(kind: type[Any]) -> bool:
    """Whether objects of a class are followed: of classes that are written in Python, by you. Those
    of perdure, asyncio and the rest of the standard library lead out of the run.
    """
    module = str(kind.__module__)
    is_instance = bool(kind.__flags__ & _HEAP_TYPE) and not issubclass(kind, (type, types.ModuleType))
    is_yours = is_instance and not is_ours(module)
    is_yours = is_yours and module.partition(".")[0] not in sys.stdlib_module_names
    (_FOLLOWED if is_yours else _LEFT).add(kind)
    return is_yours


def _mark(thing: Any) -> None:
    _word(id(thing) - ctypes.sizeof(ctypes.c_void_p)).value |= 1


def _close(coroutine: Coroutine[Any, Any, Any]) -> None:
    with contextlib.suppress(BaseException):
        coroutine.close()


def _ignore(*_: object) -> None:
    pass


def install_hooks() -> None:
    """See to the async generators of workflow code; once per engine thread, after its own loop, if
    it has one, has started.

    One that is dropped within an activation is closed by a task of its run, as asyncio does it:
    within an activation objects go by reference count alone, so that happens at the same place on
    replay. One that is dropped outside belongs to an evicted run: its code does not run.
    """
    first_elsewhere, last_elsewhere = sys.get_asyncgen_hooks()

    def first(generator: Any) -> None:
        if type(running_loop()) is not RunLoop and first_elsewhere is not None:
            first_elsewhere(generator)

    def last(generator: Any) -> None:
        loop = running_loop()
        if type(loop) is RunLoop:
            if loop.is_read_only:
                # a query or a view cannot start the task: if the generator was the run's, a replay
                # brings the run back as it was before
                loop.is_spoilt = True
            elif not loop.is_evicted:
                _ = loop.create_task(generator.aclose())
        elif last_elsewhere is not None:
            last_elsewhere(generator)

    sys.set_asyncgen_hooks(first, last)


async def _make_awaitables() -> frozenset[type]:
    """The types that CPython puts between a coroutine and what it awaits; they have no public
    names.
    """

    async def generate() -> AsyncGenerator[None]:
        yield

    async def nothing() -> None:
        pass

    generator: Any = generate()
    coroutine: Any = nothing()
    between: tuple[Any, ...] = generator.__anext__(), generator.aclose(), coroutine.__await__()
    for each in (*between, coroutine):
        each.close()
    return frozenset(map(type, between))


def _can_mark() -> bool:
    """Whether the bit is at the expected position: tested on a generator that would report it."""
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return False
    told: list[str] = []

    def tell() -> Generator[None]:
        try:
            yield
        finally:
            told.append("its code ran")

    generator = tell()
    next(generator)
    if gc.is_finalized(generator):
        return False
    _mark(generator)
    was_marked = gc.is_finalized(generator)
    del generator
    return was_marked and not told


def _run_to_end(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value


_FOLLOWED: Final[set[type[Any]]] = {
    *_SUSPENDABLE,
    *_run_to_end(_make_awaitables()),
    *_CONTAINERS,
    types.MethodType,
    types.CellType,
    contextlib._GeneratorContextManager,
    contextlib._AsyncGeneratorContextManager,
    contextlib.ExitStack,
    contextlib.AsyncExitStack,
}
"""Classes whose objects are followed; those that were not met yet are in neither of the two."""
_LEFT: Final[set[type[Any]]] = {
    str,
    bytes,
    int,
    float,
    bool,
    type(None),
    type,
    types.FunctionType,
    types.CodeType,
}
"""Classes whose objects are not."""
_CAN_MARK: Final = _can_mark()
_CLOSED: Final = _make_awaitables()
_CLOSED.close()
