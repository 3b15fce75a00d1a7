"""Calls that a run's loop rejects, by suspending the run; and calls with a constant answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn

from perdure.errors import UsageError
from perdure.model.runtime import WorkflowLoop
from perdure.model.source import drops_a_result, unawaited_line
from perdure.replay import blame
from perdure.replay.activation import running_loop

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from perdure.replay.futures import RunTask


class RefusingLoop(WorkflowLoop):
    """The part of `RunLoop` that rejects calls.

    Attributes:
        fault: the first error that suspends the run; the activation is discarded even if the code
            swallows the exception.
        is_evicted: the run was evicted; its code does not run again.
        is_read_only: a query, a view, a validator or a condition is being evaluated, so nothing may
            be scheduled.
    """

    __slots__ = ("fault", "is_evicted", "is_read_only")

    fault: BaseException | None
    is_evicted: bool
    is_read_only: bool

    def live_tasks(self) -> list[RunTask]:
        """The tasks that are not done, oldest first."""
        raise NotImplementedError

    def suspend_for(self, error: BaseException) -> None:
        """See `WorkflowRuntime`; the first error counts."""
        if self.fault is None and not self.is_evicted:
            self.fault = error

    def misuse(self, error: UsageError) -> UsageError:
        """See `WorkflowRuntime`."""
        named = type(error)(f"{blame.author_line(self, blame.caller())}: {error}")
        self.suspend_for(named)
        return named

    def unawaited(self, what: str, name: str, frame: FrameType) -> bool:
        """See `WorkflowRuntime`."""
        if self.is_evicted or self.fault is not None:
            return True
        is_author = blame.is_author(frame)
        if running_loop() is not self or not drops_a_result(frame, is_author=is_author):
            return False
        where = blame.position(frame) if is_author else self._place_of_call(name)
        self.suspend_for(UsageError(f"{where}: {what} was never awaited. Write `await` before the call."))
        return True

    def _place_of_call(self, name: str) -> str:
        """The line where the ending task's function called `name`; it is asked for while the
        function's variables are freed.
        """
        task = asyncio.current_task(self)  # type: ignore[arg-type]
        code = None if task is None else getattr(task.get_coro(), "cr_code", None)
        if code is None:
            return blame.UNKNOWN
        return f"{code.co_filename}:{unawaited_line(code, name) or code.co_firstlineno}"

    def get_debug(self) -> bool:
        """Always off."""
        return False

    def is_running(self) -> bool:
        """Always: only code that the loop runs can ask."""
        return True

    def is_closed(self) -> bool:
        """Only when evicted."""
        return self.is_evicted

    def refuse_if_read_only(self, wish: str) -> None:
        """Raise if a query, a view, a validator or a condition is being evaluated: these may only
        read.

        Args:
            wish: the attempted action; follows "this one tried to" in the message.

        Raises:
            UsageError: only reading is allowed now.
        """
        if self.is_read_only:
            raise self.misuse(
                UsageError(
                    "a query, a view, a validator and the condition of wait_until() may only read; this "
                    f"one tried to {wish}"
                )
            )

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        """Stands for the methods of asyncio's loops that a run's loop does not provide: calling one
        suspends the run.
        """
        if not (hasattr(asyncio.AbstractEventLoop, name) or hasattr(asyncio.BaseEventLoop, name)):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

        def refused(*args: Any, **kwargs: Any) -> NoReturn:
            where = blame.author_line(self, blame.caller())
            blame.deny(
                self,
                f"loop.{name}()",
                "its effect would not be repeated on replay. Put it in an activity.",
                where,
            )

        return refused
