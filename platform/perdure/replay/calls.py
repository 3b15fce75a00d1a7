"""Calls plain functions of yours as code of a run: `__init__`, queries, views and validators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from perdure.errors import UsageError
from perdure.replay import blame
from perdure.replay.activation import enter, leave

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.replay.loop import RunLoop

T = TypeVar("T")


class Watch(Protocol):
    """Watches that workflow code yields control; `Watchdog` implements it."""

    def enter(self, what: str) -> None:
        """Note that code begins to run: a run's code, or other code, which the text describes."""

    def leave(self) -> None:
        """It has given way.

        Raises:
            Blocked: it was interrupted.
        """


def call(loop: RunLoop, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a plain function (a workflow's `__init__`) as workflow code.

    Raises:
        BaseException: raised by the function; or the loop's `fault`, if one was set, even if the
            function swallowed it.
    """
    entered = enter(loop)
    try:
        result = loop.context.copy().run(function, *args, **kwargs)
    except Exception:
        if loop.fault is not None:
            raise loop.fault from None
        raise
    finally:
        leave(entered)
    if loop.fault is not None:
        raise loop.fault
    return result


def watched(watch: Watch | None, what: str, function: Callable[..., T], *args: Any) -> T:
    """Call our function, which may call code of yours on the way: a type that checks itself when it
    is decoded, a `__str__`.

    Args:
        watch: interrupts code that takes too long; None: no limit.
        what: is done, for the message.
        function: ours.
        args: of it.

    Raises:
        Blocked: it took too long.
    """
    if watch is None:
        return function(*args)
    watch.enter(what)
    try:
        return function(*args)
    finally:
        watch.leave()


def evaluate(loop: RunLoop, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a plain function (a query, a view, a validator) as workflow code that may only read.

    Raises:
        UsageError: it made a call that the guard forbids, or tried to schedule something.
    """
    read_only, fault = loop.is_read_only, loop.fault
    loop.is_read_only = True
    loop.fault = None
    try:
        return call(loop, function, *args, **kwargs)
    except BaseException as error:
        if error is cast("BaseException | None", loop.fault) and not isinstance(error, UsageError):
            raise UsageError(str(error)) from error
        raise
    finally:
        loop.is_read_only, loop.fault = read_only, fault


blame.ENTRY_POINTS.add(call.__code__)
