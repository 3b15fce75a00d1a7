"""The coroutine that calling an activity returns in workflow code; it schedules the activity on its
first step.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from perdure.model.runtime import current, misuse
from perdure.model.source import drops_a_result

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType

    from perdure.activity import Activity
    from perdure.model.options import ActivityOptions
    from perdure.model.runtime import WorkflowRuntime

R = TypeVar("R")


class ActivityCall(Coroutine[object, None, R]):
    """Lazy, awaited once, and warns when never awaited, like any coroutine; but it has no frame of
    its own.

    Awaited by workflow code it hands out the future's own iterator, so that it costs nothing after
    the first step.
    """

    __slots__ = ("_activity", "_args", "_kwargs", "_options", "_runtime", "_waiter")

    def __init__(
        self,
        activity: Activity[..., Any],
        runtime: WorkflowRuntime,
        options: ActivityOptions,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._activity = activity
        self._runtime: WorkflowRuntime | None = runtime
        self._options = options
        self._args = args
        self._kwargs = kwargs
        self._waiter: Generator[Any, Any, R] | None = None

    @property
    def __name__(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]  typeshed's is an attribute, asyncio only reads it
        """For asyncio's own messages."""
        return self._activity.name

    def __await__(self) -> Generator[Any, Any, R]:
        runtime = self._runtime
        if runtime is None:
            raise misuse(
                f"cannot reuse an awaited call of the activity {self._activity.name!r}: call it again"
            )
        self._runtime = None
        waiter: Generator[Any, Any, R] = runtime.schedule_activity(
            self._activity, self._args, self._kwargs, self._options
        ).__await__()
        return waiter

    def send(self, value: Any, /) -> Any:
        """A step of the task that it was made into."""
        waiter = self._waiter
        if waiter is None:
            waiter = self._waiter = self.__await__()
        return waiter.send(value)

    def throw(self, typ: Any, val: Any = None, tb: TracebackType | None = None, /) -> Any:
        """Cancelled before its first step, it is never scheduled."""
        self._runtime = None
        error = val if val is not None else typ() if isinstance(typ, type) else typ
        if tb is not None:
            error = error.with_traceback(tb)
        if self._waiter is None:
            raise error
        return self._waiter.throw(error)

    def close(self) -> None:
        """Idempotent."""
        self._runtime = None
        if self._waiter is not None:
            self._waiter.close()

    def __del__(self) -> None:
        if self._runtime is None:
            return
        message = f"the call of the activity {self._activity.name!r} was never awaited: it was not scheduled"
        if current() is self._runtime and drops_a_result(sys._getframe(1)):  # noqa: SLF001  who drops it
            misuse(f"{message}. Write `await` before the call, or pass it to asyncio.gather() or a TaskGroup")
        else:
            warnings.warn(message, RuntimeWarning, stacklevel=2, source=self)
