"""Compensations, which undo completed steps when a later one fails."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, ParamSpec, Self, cast

from perdure.authoring.retry import Retry, policy_of
from perdure.errors import ActivityFailed, ChildFailed, Failure, RetryAfter, TokenFailed, UsageError
from perdure.model.duration import microseconds
from perdure.model.options import interval_us
from perdure.model.runtime import current, misuse

if TYPE_CHECKING:
    from types import TracebackType

P = ParamSpec("P")
_log: Final = logging.getLogger("perdure.workflow")
_OTHERS: Final = (ActivityFailed, ChildFailed, TokenFailed)
"""A `Failure` is final, but these are about something else, which may succeed the next time."""


class FailedCompensation(NamedTuple):
    """A step that was not undone.

    Attributes:
        name: of the compensation.
        error: what its last attempt raised.
        attempts: how often it was tried.
    """

    name: str
    error: BaseException
    attempts: int


class _Compensation(NamedTuple):
    fn: Callable[..., object]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    name: str
    retry: Retry | None


class Compensations:
    """Registers compensations with options; see `Saga.options`."""

    __slots__ = ("_name", "_registered", "_retry")

    def __init__(self, registered: list[_Compensation], name: str | None, retry: Retry | None) -> None:
        self._registered = registered
        self._name = name
        self._retry = retry

    def compensate(self, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """As `Saga.compensate`."""
        if not callable(fn):
            raise misuse(
                "compensate takes a function and its arguments, saga.compensate(refund, receipt), not "
                f"{fn!r}."
            )
        name = self._name or _name_of(fn)
        self._registered.append(_Compensation(fn, args, kwargs, name, self._retry))


class Saga:
    """`async with workflow.saga() as saga:`.

    Attributes:
        failures: the compensations that have failed, in the order in which they did.
    """

    __slots__ = ("_is_parallel", "_plain", "_registered", "failures")

    def __init__(self, *, parallel: bool = False, retry: Retry | None = None) -> None:
        self._is_parallel = parallel
        self._registered: list[_Compensation] = []
        self._plain = Compensations(self._registered, None, _checked(retry))
        self.failures: list[FailedCompensation] = []

    def compensate(self, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Register a call that is made when the block fails or is cancelled. Register it BEFORE the
        step that it undoes, since that step may take effect although its answer is lost.

        Args:
            fn: an activity, or a function or method, async or not.
            args: its arguments.
            kwargs: its keyword arguments.

        Raises:
            UsageError: `fn` cannot be called.
        """
        self._plain.compensate(fn, *args, **kwargs)

    def options(self, *, retry: Retry | None = None, name: str | None = None) -> Compensations:
        """Register with options: `saga.options(retry=Retry(maximum_attempts=5)).compensate(f)`.

        Args:
            retry: when it is called again after it has failed, instead of that of the saga. A
                `Failure` of your own is final.
            name: for people, in the history and in `perdure workflow show`; by default the
                function's.

        Raises:
            UsageError: one of them is invalid.
        """
        if name is not None and not isinstance(cast("object", name), str):
            raise misuse(f"Saga.options: name must be text, not {name!r}.")
        return Compensations(self._registered, name, self._plain._retry if retry is None else _checked(retry))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  one module

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        # Other BaseExceptions (the run is evicted or suspended) do not come from your code: nothing
        # is undone.
        if not isinstance(error, (Exception, asyncio.CancelledError)) or not self._registered:
            return
        task = asyncio.ensure_future(self._undo())
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait((task,))
            except asyncio.CancelledError as late:
                cancelled = late
        task.result()
        for failed in self.failures:
            tries = "" if failed.attempts == 1 else f" in {failed.attempts} attempts"
            error.add_note(f"not undone: {failed.name} failed{tries}: {_described(failed.error)}")
        if cancelled is not None and not isinstance(error, asyncio.CancelledError):
            raise cancelled

    async def _undo(self) -> None:
        registered = self._registered
        while registered:
            if not self._is_parallel:
                await self._compensated(registered.pop())
                continue
            tasks = [asyncio.ensure_future(self._compensated(each)) for each in reversed(registered)]
            registered.clear()
            await asyncio.wait(tasks)
            for task in tasks:
                task.result()

    async def _compensated(self, it: _Compensation) -> None:
        """Call a compensation until it succeeds, or has no attempt left."""
        runtime = current()
        recorded = None if runtime is None else runtime.compensations
        number = 0 if recorded is None else recorded.next()
        began = asyncio.get_running_loop().time()
        attempt, delay = 1, 0.0
        while True:
            try:
                if delay:
                    await asyncio.sleep(delay)
                result = it.fn(*it.args, **it.kwargs)
                if inspect.isawaitable(result):
                    await result
            except (Exception, asyncio.CancelledError) as error:
                if recorded is not None and recorded.are_recorded and isinstance(error, UsageError):
                    raise  # a mistake in the code: the run is suspended until it is fixed
                delay_us = _next_us(it.retry, error, attempt)
                now = asyncio.get_running_loop().time()
                if delay_us is None or _is_over(it.retry, now + delay_us / 1e6 - began):
                    if recorded is not None:
                        recorded.fail(number, it.name, error, attempt)
                    self.failures.append(FailedCompensation(it.name, error, attempt))
                    if runtime is None or not runtime.is_replaying():
                        _log.error("the compensation %s failed; running the others", it.name, exc_info=error)
                    return
                if recorded is not None and runtime is not None:
                    recorded.retry(number, it.name, attempt, error, runtime.now_us() + delay_us)
                attempt, delay = attempt + 1, delay_us / 1e6
            else:
                if recorded is not None and attempt > 1:
                    recorded.complete(number)
                return


def _checked(retry: Retry | None) -> Retry | None:
    if retry is not None and not isinstance(cast("object", retry), Retry):
        raise misuse(f"retry of a saga must be an activity.Retry, not {retry!r}.")
    if retry is not None and retry.when_exhausted != "fail":
        raise misuse("a compensation cannot pause its run: call an activity that has this retry.")
    return retry


def _next_us(retry: Retry | None, error: BaseException, attempt: int) -> int | None:
    """Microseconds until the next attempt; None: there is none."""
    if retry is None or not isinstance(error, Exception) or isinstance(error, tuple(retry.never)):
        return None
    if isinstance(error, Failure) and not isinstance(error, _OTHERS):
        return None
    policy = policy_of(retry)
    if policy.maximum_attempts and attempt >= policy.maximum_attempts:
        return None
    asked = microseconds(error.delay) if isinstance(error, RetryAfter) else -1
    return max(1, interval_us(policy, attempt, asked))


def _is_over(retry: Retry | None, seconds: float) -> bool:
    """Whether an attempt so long after the first would come too late."""
    return retry is not None and bool(
        (longest := policy_of(retry).give_up_after_us) and seconds * 1e6 >= longest
    )


def _name_of(fn: Callable[..., object]) -> str:
    while isinstance(fn, functools.partial):
        fn = cast("functools.partial[object]", fn).func
    return str(getattr(fn, "__name__", type(fn).__name__))


def _described(error: BaseException) -> str:
    """Class and message, on one line."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
