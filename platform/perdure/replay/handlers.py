"""The handlers of accepted messages: they run as tasks beside the main coroutine, and the run
closes when they have ended.
"""

from __future__ import annotations

import asyncio
import inspect
from traceback import walk_tb
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from perdure.authoring.unawaited import Unawaited
from perdure.errors import NotAwaited
from perdure.model.source import place_of
from perdure.replay.suspensions import CURABLE

if TYPE_CHECKING:
    from collections.abc import Callable


_COROUTINE: Final[type[Any]] = CoroutineType


class Handlers:
    """The handlers of one run.

    Attributes:
        fault: the exception of the first handler that failed; it fails the run.
        are_cancelled: the handlers were cancelled. When the run ends this is done once, so that
            their clean-up is not interrupted.
    """

    __slots__ = ("_tasks", "are_cancelled", "fault")

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []
        self.fault: BaseException | None = None
        self.are_cancelled = False

    def __bool__(self) -> bool:
        """Whether a handler is still running."""
        return bool(self._tasks)

    @property
    def are_finished(self) -> bool:
        """Whether every handler has finished, including those that were not reaped yet."""
        return all(task.done() for task in self._tasks)

    def add(self, task: asyncio.Task[Any]) -> None:
        """Add the task of a handler."""
        self._tasks.append(task)

    def cancel(self, *, again: bool = False) -> None:
        """Cancel the handlers.

        Args:
            again: also if that was done before.
        """
        if self.are_cancelled and not again:
            return
        self.are_cancelled = True
        for task in self._tasks:
            task.cancel()

    def reap(self) -> bool:
        """Forget the handlers that have ended; return whether this found the first failure.

        Raises:
            BaseException: a handler raised one of `CURABLE`: the run must be suspended.
        """
        ended = [task for task in self._tasks if task.done()]
        if not ended:
            return False
        self._tasks = [task for task in self._tasks if not task.done()]
        faults = [fault for task in ended if (fault := fault_of(task)) is not None]
        faults = [fault for fault in faults if not isinstance(fault, asyncio.CancelledError)]
        if not faults or self.fault is not None:
            return False
        self.fault = faults[0]
        return True


def fault_of(task: asyncio.Task[Any]) -> BaseException | None:
    """The exception of a finished task, including a cancellation; None: it returned.

    Raises:
        BaseException: one of `CURABLE`: the run must be suspended.
    """
    try:
        error = task.exception()
    except asyncio.CancelledError as cancelled:
        return cancelled
    if error is not None and isinstance(error, CURABLE):
        raise error
    if isinstance(error, AttributeError) and (called := _unawaited(error.obj)):
        asked: Any = error.obj
        if type(asked) is _COROUTINE:
            asked.close()  # so that Python does not warn of it a second time, when it is collected
        raise NotAwaited(
            f"{_place_in(error)}: {called} is asked for {error.name!r} and not awaited. Write `await` before "
            "the call."
        ) from error
    return error


def _unawaited(value: Any) -> str:
    """The name of the call without `await` that made this object; empty: the object is no such
    call. The exception still refers to the object, so Python has not warned of it yet.
    """
    if isinstance(value, Unawaited):
        return str(value.called)
    if type(value) is _COROUTINE and inspect.getcoroutinestate(value) == inspect.CORO_CREATED:
        return f"the coroutine {value.__qualname__.rpartition('<locals>.')[2]}()"
    return ""


def _place_in(error: BaseException) -> str:
    """The innermost line that raised the error."""
    last = list(walk_tb(error.__traceback__))[-1:]
    return "".join(f"{frame.f_code.co_filename}:{line}" for frame, line in last)


async def handle(
    fn: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Call a handler, which is a function or a coroutine function."""
    result: Any = fn(instance, *args, **kwargs)
    if result is not None:
        result = await result
        if result is not None and hasattr(result, "__await__"):
            raise NotAwaited(f"{place_of(fn)}: the signal handler returned {result!r}, which was not awaited")


async def raising(error: BaseException) -> None:
    """A coroutine that raises, in place of workflow code that could not be called."""
    raise error
