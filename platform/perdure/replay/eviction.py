# ruff: noqa: SLF001 - there is no public way to free a coroutine without running its code
"""Drops a run without running any of its code.

Closing a suspended coroutine, or just dropping it, throws GeneratorExit into it: your `finally` and
`except` blocks would run, compensations of a saga among them, although the run has not ended. So
each suspended coroutine and generator is first marked as already finalised: one bit that CPython
keeps in front of the object so that a finaliser runs once. An object with the bit is freed without
running any code. Objects with a `__del__` of yours are marked, too. Callbacks of weak references
are dropped. `gc.is_finalized` is the public way to read the bit; whether setting it works is tested
when this module is imported. Where it does not work (free-threaded builds, another Python),
coroutines are closed on an inert loop: their blocks run, but have no effect on the run.

The suspended objects of a run are found by following references from its tasks, as the garbage
collector does: through frames, iterators, containers, closures, contexts, exceptions and attributes
of your objects. References that lead out of the run (modules, classes, loops, most of the standard
library) are not followed. The nearest objects come first, and the search ends after
`_MOST_OBJECTS`.
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
from weakref import finalize, getweakrefcount, getweakrefs

from perdure.model.source import is_ours
from perdure.replay.activation import enter, leave, running_loop
from perdure.replay.loop import RunLoop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Generator, Sequence, Sized


# The treatment of the objects of a class. Plain numbers, since it is looked up for each object of a
# run.
_LEFT: Final = 1
"""Not followed."""
_SUSPENDED: Final = 2
"""Marked, and followed before all else."""
_FUNCTION: Final = 3
"""Followed, but not into their module."""
_NEAR: Final = 4
"""Between a frame and what is suspended: followed before all else."""
_CONTAINER: Final = 5
"""Followed if not too large."""
_FAR: Final = 6
"""Followed, the nearest first."""
_DELETED: Final = 7
"""Followed, the nearest first, and marked: the class has a `__del__` of yours."""
_SUSPENDABLE: Final = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)
_LARGEST_CONTAINER: Final = 100_000
"""The largest container that is followed. Larger ones are data, and looking through one takes a
millisecond per 50,000 entries."""
_MOST_OBJECTS: Final = 10_000
"""The most objects of a run that are looked at, and as many again for each task."""
_HEAP_TYPE: Final = 1 << 9
"""Py_TPFLAGS_HEAPTYPE: set for classes written in Python, among others."""
_COLLECTED: Final = 1 << 14
"""Py_TPFLAGS_HAVE_GC: its objects have the bit."""
_word = ctypes.c_size_t.from_address
_clear_reference = ctypes.PYFUNCTYPE(None, ctypes.py_object)(("_PyWeakref_ClearRef", ctypes.pythonapi))
_future: Any = asyncio.Future
_task: Any = asyncio.Task
_init_future: Callable[..., None] = _future.__init__
_init_task: Callable[..., None] = _task.__init__


def evict(loop: RunLoop, *held: object) -> None:
    """Drop the run: its memory is freed as soon as the caller releases the loop and its objects.

    Args:
        loop: of the run.
        held: objects that belong to the run beside its tasks: the instance of its class.
    """
    entered = enter(loop)
    unraisable_hook, sys.unraisablehook = sys.unraisablehook, _ignore
    warn, warnings._warn_unawaited_coroutine = warnings._warn_unawaited_coroutine, _ignore  # type: ignore[attr-defined]
    inert: Any = loop
    try:
        runtime: Any = loop.runtime
        roots = [*_callbacks(loop), *held]
        tasks, futures = loop.release(), runtime.release()
        if _CAN_MARK and (tasks or not _are_plain(roots)):
            _mark_all(roots, tasks)
        del roots
        for future in futures:
            _init_future(future, loop=inert)
        for task in tasks:
            _end(task, loop)
    finally:
        warnings._warn_unawaited_coroutine = warn  # type: ignore[attr-defined]
        sys.unraisablehook = unraisable_hook
        leave(entered)


def _callbacks(loop: RunLoop) -> list[object]:
    """The callbacks that the loop has scheduled, and the conditions that it evaluates."""
    if not (loop._ready or loop.timers.waiting or loop.conditions):
        return []
    handles = (*loop._ready, *loop.timers.waiting.values())
    called: list[object] = [part for each in handles for part in (each.callback, each.args)]
    return called + [each.condition for each in loop.conditions]


def _end(task: Any, loop: Any) -> None:
    """Free the task's coroutine.

    Initialising a future or a task again drops its callbacks and its coroutine, so that no
    reference cycle is left which would wait for the garbage collector.
    """
    if not _CAN_MARK:
        _close(task.get_coro())
    waiter = task._fut_waiter
    if waiter is not None and not waiter.done():
        _init_future(waiter, loop=loop)
    _init_task(task, _CLOSED, loop=loop)
    task._log_destroy_pending = False


def _are_plain(things: list[Any]) -> bool:
    """Whether these objects hold plain values only, as those of most runs that have ended do: there
    is nothing to mark.
    """
    sort_of: Any = _SORTS.get
    for thing in things:
        sort = sort_of(type(thing))
        if sort == _LEFT:
            continue
        if sort != _FAR or getweakrefcount(thing):
            return False
        for found in gc.get_referents(thing):
            if sort_of(type(found)) != _LEFT:
                return False
    return True


def _mark_all(roots: list[object], tasks: Sequence[object]) -> None:
    """Mark every suspended object that these tasks and objects lead to."""
    seen: set[int] = set()
    near: list[object] = [*tasks]
    far: deque[object] = deque(roots)
    left = _MOST_OBJECTS * (1 + len(tasks))
    sort_of, referents_of = _SORTS.get, gc.get_referents
    while near or (far and left > 0):
        if near:
            thing = near.pop()
        else:
            thing = far.popleft()
            left -= 1
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        sort = sort_of(type(thing)) or _sort_of(type(thing), far)
        if sort in (_SUSPENDED, _DELETED):
            _mark(thing)
        if sort >= _FAR and getweakrefcount(thing):
            _drop_callbacks(thing)
        if sort == _FUNCTION:
            near += _held_by(thing)
            continue
        if sort == _LEFT or (sort == _CONTAINER and len(cast("Sized", thing)) > _LARGEST_CONTAINER):
            continue
        referents: list[object] = referents_of(thing)
        for found in referents:
            sort = sort_of(type(found), _FAR)
            if sort > _NEAR:
                far.append(found)
            elif sort != _LEFT:
                near.append(found)


def _drop_callbacks(thing: object) -> None:
    """Drop the weakref callbacks of an object, except those of weak dictionaries and sets, which
    must forget it.
    """
    for reference in getweakrefs(thing):
        callback = reference.__callback__
        if isinstance(callback, finalize):
            callback.detach()
        elif callback is not None and getattr(callback, "__module__", "") not in ("weakref", "_weakrefset"):
            _clear_reference(reference)


def _held_by(function: Any) -> list[object]:
    """The objects that a function refers to, except its module."""
    held = [*(function.__closure__ or ()), *(function.__defaults__ or ())]
    return held + [more for more in (function.__kwdefaults__, function.__dict__) if more]


def _sort_of(kind: type[Any], far: deque[object]) -> int:
    """Decide the sort of a class that was not met before. Your classes are followed, and classes
    that hold what they are given; other classes of perdure, asyncio and the standard library lead
    out of the run.

    A class that is defined in a function may disappear with the run: its sort is not remembered,
    and its attributes are looked at.
    """
    is_waiting = (
        kind.__module__ == "_asyncio" and kind.__name__ == "FutureIter"
    )  # for a future without a value
    if is_waiting or issubclass(kind, (type, types.ModuleType, asyncio.AbstractEventLoop)):
        _SORTS[kind] = _LEFT
        return _LEFT
    module = str(kind.__module__)
    name = module.partition(".")[0]
    is_heap = bool(kind.__flags__ & _HEAP_TYPE)
    is_yours = is_heap and not is_ours(module) and name not in sys.stdlib_module_names
    if is_yours and kind.__flags__ & _COLLECTED and hasattr(kind, "__del__"):
        sort = _DELETED
    elif is_yours or not is_heap or module in _HOLDING or name in _HOLDING:
        sort = _FAR
    else:
        sort = _LEFT
    if is_yours and "<locals>" in kind.__qualname__:
        far.extend(vars(kind).values())
    else:
        _SORTS[kind] = sort
    return sort


def _mark(thing: Any) -> None:
    _word(id(thing) - ctypes.sizeof(ctypes.c_void_p)).value |= 1


def _close(coroutine: Coroutine[Any, Any, Any]) -> None:
    with contextlib.suppress(BaseException):
        coroutine.close()


def _ignore(*_: object) -> None:
    pass


def install_hooks() -> None:
    """Install the hooks for async generators of workflow code. Call this once per engine thread,
    after the thread's own loop, if any, has started.

    A generator that is dropped within an activation is closed by a task of its run, as asyncio does
    it. Garbage collection is off then, so objects are freed by reference count alone, and this
    happens at the same place on replay. A generator that is dropped outside an activation belongs
    to an evicted run: its code does not run.
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
    """The types that CPython puts between a coroutine and the object it awaits; they have no public
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


_HOLDING: Final = frozenset(
    (
        "_asyncio",
        "_collections_abc",
        "_contextvars",
        "_functools",
        "asyncio",
        "builtins",
        "collections",
        "contextlib",
        "contextvars",
        "functools",
        "itertools",
        "queue",
        "types",
        "perdure.authoring.saga",
        "perdure.replay.futures",
    )
)
"""Modules whose objects hold only what they are given."""
_SORTS: Final[dict[type[Any], int]] = {
    **dict.fromkeys(
        (str, bytes, int, float, bool, type(None), type, types.ModuleType, types.CodeType), _LEFT
    ),
    **dict.fromkeys(_SUSPENDABLE, _SUSPENDED),
    types.FunctionType: _FUNCTION,
    **dict.fromkeys(
        (
            *_run_to_end(_make_awaitables()),
            types.MethodType,
            types.CellType,
            contextlib._GeneratorContextManager,
            contextlib._AsyncGeneratorContextManager,
            contextlib.ExitStack,
            contextlib.AsyncExitStack,
            enumerate,
            zip,
            map,
            filter,
        ),
        _NEAR,
    ),
    **dict.fromkeys((list, tuple, dict, set, frozenset, deque, defaultdict, OrderedDict), _CONTAINER),
}
"""The sorts of classes; others are added when they are met."""
_CAN_MARK: Final = _can_mark()
_CLOSED: Final = _make_awaitables()
_CLOSED.close()
