"""Tasks, futures and handles of a run: asyncio's own in C, with a hash that is the same in every
process.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from perdure.model.actions import AbandonActivity, StopActivity
from perdure.model.options import ActivityOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context

    from perdure.model.runtime import WorkflowLoop
    from perdure.replay.pending import Pending


class RunTask(asyncio.Task[Any]):
    """A task of a run."""

    __slots__ = ("_hash",)

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        loop: WorkflowLoop,
        hash_: int,
        name: str,
        context: Context | None,
        **options: Any,
    ) -> None:
        self._hash = hash_  # first: the C constructor puts the task into a set
        super().__init__(coroutine, loop=loop, name=name, context=context, **options)  # type: ignore[arg-type]

    def holds(self, error: BaseException) -> bool:
        """Whether the task ended by this exception."""
        return self.done() and not self.cancelled() and self.exception() is error

    def __hash__(self) -> int:
        return self._hash


class RunFuture(asyncio.Future[Any]):
    """A future of a run."""

    __slots__ = ("_hash",)

    def __init__(self, loop: WorkflowLoop, hash_: int) -> None:
        self._hash = hash_
        super().__init__(loop=loop)  # type: ignore[arg-type]

    def __hash__(self) -> int:
        return self._hash


class ActionFuture(RunFuture):
    """The outcome of an action. Cancelling it cancels the action, and the code continues without
    waiting for that; `on_cancel` of an activity may say otherwise.
    """

    __slots__ = ("_number", "_options", "_pending")

    def __init__(
        self,
        loop: WorkflowLoop,
        hash_: int,
        pending: Pending[Any],
        number: int,
        options: ActivityOptions | None = None,
    ) -> None:
        super().__init__(loop, hash_)
        self._pending = pending
        self._number = number
        self._options = options

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the wait, and do with the action what its options say.

        Returns:
            Whether the wait is over. If not, asyncio cancels the task that awaits this when it is
            done; a second cancellation ends the wait.
        """
        if not self.done():
            how = "ask" if self._options is None else self._options.on_cancel
            pending, number = self._pending, self._number
            if how == "ask":
                pending.cancelled(number)
            elif how == "abandon":
                pending.cancelled(number, AbandonActivity)
            elif pending.is_waiting(number) and not pending.withdraw(number):
                self._options = _LEFT
                pending.ask(StopActivity(number))
                return False
        return super().cancel(msg=msg)


_LEFT: Final = ActivityOptions(on_cancel="abandon")
"""Of an activity that was asked to stop: the next cancellation leaves it."""


class InertFuture(RunFuture):
    """The future that an evicted run's loop returns: awaiting it ends the coroutine."""

    __slots__ = ()

    def __await__(self) -> Any:
        loop: Any = self.get_loop()
        if loop.count_inert_await() < _PATIENCE:
            raise GeneratorExit
        yield self  # swallowed so often: let close() see that it does not end

    __iter__ = __await__


_PATIENCE = 100


def reject(future: RunFuture, error: BaseException) -> None:
    """End a future with any exception. A future rejects `StopIteration`, so that becomes a
    RuntimeError, as in a coroutine.
    """
    if isinstance(error, StopIteration):
        replaced = RuntimeError(f"{type(error).__name__} was raised where a future cannot hold it")
        replaced.__cause__ = error
        error = replaced
    future.set_exception(error)


class Handle:
    """A callback that is ready, with the methods of `asyncio.Handle`."""

    __slots__ = ("args", "callback", "context")

    callback: Callable[..., object] | None

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], context: Context) -> None:
        self.callback = callback
        self.args = args
        self.context = context

    def cancel(self) -> None:
        """Cancel the callback; it will not be called."""
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self.callback is None


class TimerHandle(Handle):
    """A callback that waits for a durable timer."""

    __slots__ = ("_pending", "_when", "number")

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context,
        pending: Pending[TimerHandle],
        *,
        number: int,
        when: float,
    ) -> None:
        super().__init__(callback, args, context)
        self._pending = pending
        self.number = number
        self._when = when

    def cancel(self) -> None:
        """Cancel the timer; the callback will not be called."""
        if self.callback is not None:
            super().cancel()
            self._pending.cancelled(self.number)

    def when(self) -> float:
        """The loop time that was asked for, seconds."""
        return self._when
