"""Sleeps, waits and timeouts whose timers have a summary: asyncio has no place for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from perdure.authoring.unawaited import WaitCall

if TYPE_CHECKING:
    from types import TracebackType

R = TypeVar("R")


@contextmanager
def summarised(summary: str) -> Generator[Any]:
    """Timers that are started in the block have this summary; yields the loop of the run."""
    loop: Any = asyncio.get_running_loop()
    loop.summary = summary
    try:
        yield loop
    finally:
        loop.summary = ""


async def sleep(seconds: float, summary: str) -> None:
    """As `asyncio.sleep`."""
    if seconds <= 0:
        await asyncio.sleep(0)
        return
    with summarised(summary) as loop:
        future: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _wake, future)
    try:
        await future
    finally:
        timer.cancel()


class SummarisedWait(WaitCall[R]):
    """A `workflow.wait_until` whose timer has a summary.

    Args:
        awaitable: the runtime's wait; its first step starts the timer.
        summary: one line for people.
    """

    __slots__ = ("_summary",)

    def __init__(self, awaitable: Awaitable[R], summary: str) -> None:
        super().__init__(awaitable)
        self._summary = summary

    def __await__(self) -> Generator[Any, Any, R]:
        steps = super().__await__()
        try:
            with summarised(self._summary):
                waits_for = next(steps)
            while True:
                try:
                    sent = yield waits_for
                except GeneratorExit:
                    steps.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - such as a cancellation
                    waits_for = steps.throw(error)
                else:
                    waits_for = steps.send(sent)
        except StopIteration as end:
            result: R = end.value
            return result


class Timeout:
    """`asyncio.timeout`, whose timer has a summary.

    Args:
        seconds: how long.
        summary: one line for people.
    """

    __slots__ = ("_summary", "_timeout")

    def __init__(self, seconds: float, summary: str) -> None:
        self._timeout = asyncio.timeout(seconds)
        self._summary = summary

    async def __aenter__(self) -> asyncio.Timeout:
        with summarised(self._summary):
            return await self._timeout.__aenter__()  # waits for nothing

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._timeout.__aexit__(kind, error, trace)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
