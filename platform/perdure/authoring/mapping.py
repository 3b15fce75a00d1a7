"""`workflow.map`: one call for each item, with a limit on concurrent calls."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeVar, overload

from perdure.model.runtime import current, misuse

T = TypeVar("T")
R = TypeVar("R")
_END: Final[tuple[int, Any]] = -1, None


@overload
async def map(  # noqa: A001 - the word of the public interface
    fn: Callable[[T], Awaitable[R]], items: Iterable[T], /, *, concurrency: int | None = None
) -> list[R]: ...
@overload
async def map(  # noqa: A001 - the word of the public interface
    fn: Callable[[T], Awaitable[R]], items: Iterable[T], /, *, concurrency: int | None = None, tolerate: int
) -> list[R | Exception]: ...
async def map(  # noqa: A001 - the word of the public interface
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T],
    /,
    *,
    concurrency: int | None = None,
    tolerate: int = 0,
) -> list[Any]:
    """Call an activity, or any coroutine function, for each item; return the results in the order
    of the items.

        receipts = await workflow.map(charge, orders, concurrency=20)

    Args:
        fn: called with one item; for a child workflow: `lambda item:
            workflow.execute(f"parcel-{item}", Parcel.send, item)`.
        items: any iterable; an infinite one ends only by a failure.
        concurrency: the most calls that run at a time; None: no limit.
        tolerate: the most calls that may fail; the list has their exceptions in place of results.
            One more failure cancels the other calls and is raised.

    Raises:
        Exception: the first failure beyond `tolerate`.
        UsageError: this is not workflow code, it only reads, or a number is invalid.
    """
    runtime = current()
    if runtime is None or runtime.is_read_only:
        raise misuse("workflow.map is for workflow code that may change something; none is executed here.")
    if not callable(fn):
        raise misuse(f"workflow.map takes a function and its items, map(charge, orders), not {fn!r}.")
    if concurrency is not None and concurrency < 1:
        raise misuse(f"workflow.map: concurrency must be at least 1, not {concurrency!r}.")
    if tolerate < 0:
        raise misuse(f"workflow.map: tolerate must be at least 0, not {tolerate!r}.")
    results: dict[int, R | Exception] = {}
    running: dict[asyncio.Task[R], int] = {}
    ended: deque[asyncio.Task[R]] = deque()  # in the order in which they ended
    has_ended = asyncio.Event()

    def end(task: asyncio.Task[R]) -> None:
        ended.append(task)
        has_ended.set()

    failures = 0
    waiting = enumerate(items)
    is_over = False
    try:
        while True:
            while not is_over and (concurrency is None or len(running) < concurrency):
                number, item = next(waiting, _END)
                if number < 0:
                    is_over = True
                    break
                task = asyncio.ensure_future(_called(fn, item))
                running[task] = number
                task.add_done_callback(end)
            if not running:
                return [results[number] for number in range(len(results))]
            await has_ended.wait()
            has_ended.clear()
            while ended:
                task = ended.popleft()
                number = running.pop(task)
                outcome = _outcome(task)
                if isinstance(outcome, Exception):
                    failures += 1
                    if failures > tolerate:
                        raise outcome
                results[number] = outcome
    finally:
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)


def _outcome(task: asyncio.Task[R]) -> R | Exception:
    """The result of a task, or the exception that it raised.

    Raises:
        BaseException: the task was cancelled, or ended by an exception that is not an `Exception`.
    """
    try:
        return task.result()
    except Exception as error:  # noqa: BLE001 - the author's: it is handed on
        return error


async def _called(fn: Callable[[Any], Awaitable[R]], item: Any) -> R:
    return await fn(item)
