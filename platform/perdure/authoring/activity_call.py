"""The coroutine that calling an activity returns in workflow code; it schedules the activity on its
first step.
"""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any, TypeVar

from perdure.authoring.unawaited import Unawaited
from perdure.model.runtime import misuse

if TYPE_CHECKING:
    from collections.abc import Generator

    from perdure.model.options import ActivityOptions
    from perdure.model.runtime import ActivitySpec, WorkflowRuntime

R = TypeVar("R")


class ActivityCall(Unawaited[R]):
    """The awaitable call of an activity. If it is never awaited, the run is suspended, unless an
    exception has kept the code from reaching the `await`.

    `__await__` hands out the future's own iterator, so that awaiting costs nothing after the first
    step.
    """

    __slots__ = ("_activity", "_args", "_kwargs", "_options", "_runtime")

    def __init__(
        self,
        activity: ActivitySpec,
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
        self._waiter = None

    @property
    def __name__(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]  typeshed's is an attribute, asyncio only reads it
        """The name that asyncio shows in its messages."""
        return self._activity.name

    @property
    def called(self) -> str:  # type: ignore[override]
        """The name of the activity, for messages."""
        return f"the call of the activity {self._activity.name!r}"

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

    def close(self) -> None:
        """Idempotent."""
        self._runtime = None
        super().close()

    def __del__(self) -> None:
        runtime = self._runtime
        if runtime is None:
            return
        name = self._activity.fn.__name__
        if not runtime.unawaited(self.called, name, sys._getframe(1)):  # noqa: SLF001  who drops it
            message = f"{self.called} was never awaited: it was not scheduled"
            warnings.warn(message, RuntimeWarning, stacklevel=2, source=self)
