"""Threads for sync activities.

Not `concurrent.futures`: there a function counts as begun when it is queued, and the interpreter
waits for its threads at exit. Here an attempt begins when it gets a thread, so that waiting for one
does not use up its timeout. And a function that hangs for ever cannot block the exit of the
process, since its thread is a daemon.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, NoReturn, TypeVar

from perdure.threads import WatchedThread

T = TypeVar("T")


class ActivityThreads:
    """Threads for activities, created when needed and reused.

    Belongs to the asyncio loop it is called on; another loop may use it when no function is
    running.

    Args:
        limit: maximum number of concurrent functions; more wait for a thread, in their order.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._busy = 0
        self._idle = 0
        self._started = 0
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """Number of functions waiting for a thread."""
        return len(self._waiting)

    @property
    def busy(self) -> int:
        """Number of threads running a function, including one whose attempt has timed out or was
        cancelled.
        """
        return self._busy

    async def run(self, fn: Callable[[], T], begin: Callable[[], None]) -> T:
        """Run a function in a thread.

        Args:
            fn: the function.
            begin: called on the loop when the function gets a thread.

        Raises:
            BaseException: raised by the function.
            asyncio.CancelledError: the wait was cancelled; a function that has begun continues.
        """
        loop = asyncio.get_running_loop()
        await self._acquire(loop)
        done: asyncio.Future[Callable[[], T]] = loop.create_future()

        def work() -> None:
            outcome: Callable[[], T]
            try:
                outcome = partial(_return, fn())
            except BaseException as error:  # noqa: BLE001 - the author's; raised again on the loop
                outcome = partial(_raise, error)
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(self._ended, done, outcome)

        begin()
        if self._idle:
            self._idle -= 1
        else:
            self._started += 1
            WatchedThread(target=self._serve, name="perdure-activity").start()
        self._queue.put(work)
        return (await done)()

    def close(self) -> None:
        """End the threads; a busy one ends after its function. Do not call `run` afterwards."""
        for _ in range(self._started):
            self._queue.put(None)
        self._started = 0

    async def _acquire(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._busy < self._limit:
            self._busy += 1
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release()  # it had just been given a thread
            else:
                with suppress(ValueError):  # `_release` has passed over it already
                    self._waiting.remove(turn)
            raise

    def _release(self) -> None:
        """Give the thread of a finished function to the next one."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._busy -= 1

    def _ended(self, done: asyncio.Future[Any], outcome: Callable[[], Any]) -> None:
        self._idle += 1
        self._release()
        if not done.done():
            done.set_result(outcome)

    def _serve(self) -> None:
        while (work := self._queue.get()) is not None:
            work()


def _return(value: T) -> T:
    return value


def _raise(error: BaseException) -> NoReturn:
    raise error
