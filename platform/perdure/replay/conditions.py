"""Waiting for a condition: the waiters of `wait_until`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any

from perdure.errors import UsageError
from perdure.replay.futures import reject

if TYPE_CHECKING:
    from perdure.replay.futures import RunFuture
    from perdure.replay.refusing import RefusingLoop


class Condition:
    """One call of `wait_until` that waits."""

    __slots__ = ("condition", "context", "future", "last")

    def __init__(self, condition: Callable[[], Any], context: Context, future: RunFuture) -> None:
        self.condition = condition
        self.context = context
        self.future = future
        self.last: Any = None

    def evaluate(self, loop: RefusingLoop) -> Any:
        loop.is_read_only = True
        try:
            value = self.condition()
        finally:
            loop.is_read_only = False
        if value is not True and isinstance(value, Coroutine):
            value.close()
            raise loop.misuse(
                UsageError(
                    "the condition of wait_until() must be a plain function that reads state, not a "
                    "coroutine function"
                )
            )
        self.last = value
        return value

    def is_met(self, loop: RefusingLoop) -> bool:
        """Evaluate the condition; wake the waiter if the result is truthy or an exception was
        raised.
        """
        try:
            value = self.context.run(self.evaluate, loop)
            if not value:
                return False
        except BaseException as error:  # noqa: BLE001 - raises where it is awaited
            reject(self.future, error)
        else:
            self.future.set_result(value)
        return True

    def give_up(self) -> None:
        if not self.future.done():
            self.future.set_result(self.last)


def wake_one(conditions: list[Condition], loop: RefusingLoop) -> bool:
    """Wake the oldest waiter whose condition holds; return whether there was one. Only one is
    woken, so that its condition still holds when its code resumes.

    Args:
        conditions: the waiters, oldest first; those that have stopped waiting are removed.
        loop: of the run.
    """
    has_ended = False
    for index, condition in enumerate(conditions):
        if condition.future.done():
            has_ended = True
        elif condition.is_met(loop):
            # only this one is removed: if one event wakes ten thousand, that is ten thousand calls
            del conditions[index]
            return True
    if has_ended:
        conditions[:] = [each for each in conditions if not each.future.done()]
    return False
