"""An asyncio loop in a separate thread: steps, activities, and other work that must not block the
engine.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from concurrent.futures import Future, wait
from contextlib import suppress
from time import monotonic
from typing import Any, Final, TypeVar

from perdure.errors import InfrastructureError
from perdure.threads import WatchedThread
from perdure.worker.loop_watch import LoopWatch
from perdure.worker.stopping import stop

T = TypeVar("T")
POLL_INTERVAL_S: Final = 0.5

_logger: Final = logging.getLogger(__name__)


class SideLoop:
    """An asyncio loop on its own thread. Runs from `start` to `stop`.

    Attributes:
        loop: asyncio's.
        watch: detects that the loop is blocked.
    """

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._is_stopping = False
        self._thread = WatchedThread(target=self._run, name=name)
        self.watch = LoopWatch(self.loop, name, lambda: self._thread.ident)

    @property
    def is_running(self) -> bool:
        """Whether the thread is running."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()
        self.watch.start()

    def call(self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run a coroutine on the loop, from another thread, and wait for it.

        Args:
            coroutine: to run.
            timeout_s: seconds; None waits for ever.

        Raises:
            TimeoutError: the coroutine takes longer.
            InfrastructureError: the loop has ended.
        """
        try:
            future: Future[T] = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        except RuntimeError:  # it is closed
            coroutine.close()
            raise InfrastructureError(self._gone) from None
        until = None if timeout_s is None else monotonic() + timeout_s
        while not future.done() and self._thread.is_alive():
            left_s = POLL_INTERVAL_S if until is None else min(POLL_INTERVAL_S, until - monotonic())
            if left_s <= 0:
                future.cancel()
                raise TimeoutError
            wait((future,), left_s)
        if not future.done():
            raise InfrastructureError(self._gone)
        return future.result()

    @property
    def _gone(self) -> str:
        return f"the loop of thread {self._thread.name} has ended"

    def stop(self) -> None:
        """Cancel the running tasks and end the thread. Idempotent."""
        self._is_stopping = True
        self.watch.stop()
        if self._thread.is_alive():
            with suppress(RuntimeError):  # the loop has died, its thread is about to end
                self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(5.0)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            # an activity may have called loop.stop(), or raised what ends a loop
            while not self._is_stopping:
                self._run_a_while()
        finally:  # callers that wait get an error, also when the loop dies
            try:
                self._cancel_all()
            finally:
                self.loop.close()

    def _run_a_while(self) -> None:
        """Run the loop until it is stopped, or until an exception ends it.

        asyncio stops the loop at a `KeyboardInterrupt` or `SystemExit` of any task or callback,
        since they end a program. But only a signal may end this program, and signals go to the main
        thread. So the loop is run again; a task that raised the exception keeps it for its awaiter.
        """
        try:
            self.loop.run_forever()
        except (KeyboardInterrupt, SystemExit):
            _logger.exception(
                "the background of an activity raised an exception that ends programs; other attempts "
                "continue"
            )

    def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            stop(task, "the process stops")
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
