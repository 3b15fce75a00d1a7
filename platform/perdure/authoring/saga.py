"""Compensations, which undo completed steps when a later one fails."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self

from perdure.model.runtime import current, misuse

if TYPE_CHECKING:
    from types import TracebackType

P = ParamSpec("P")
_log: Final = logging.getLogger("perdure.workflow")


class Saga:
    """`async with workflow.saga() as saga:`."""

    __slots__ = ("_compensations",)

    def __init__(self) -> None:
        self._compensations: list[tuple[Callable[..., object], tuple[Any, ...], dict[str, Any]]] = []

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
        if not callable(fn):
            raise misuse(
                "compensate takes a function and its arguments, saga.compensate(refund, receipt), not "
                f"{fn!r}."
            )
        self._compensations.append((fn, args, kwargs))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        # Other BaseExceptions (the run is evicted or suspended) do not come from your code: nothing
        # is undone.
        if not isinstance(error, (Exception, asyncio.CancelledError)) or not self._compensations:
            return
        task = asyncio.ensure_future(self._undo())
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait((task,))
            except asyncio.CancelledError as late:
                cancelled = late
        task.result()
        if cancelled is not None and not isinstance(error, asyncio.CancelledError):
            raise cancelled

    async def _undo(self) -> None:
        while self._compensations:
            fn, args, kwargs = self._compensations.pop()
            try:
                result = fn(*args, **kwargs)
                if inspect.isawaitable(result):
                    await result
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  one that fails does not stop the rest
                runtime = current()
                if runtime is None or not runtime.is_replaying():
                    name = getattr(fn, "__name__", repr(fn))
                    _log.error("the compensation %s failed; running the others", name, exc_info=error)
