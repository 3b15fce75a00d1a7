"""The life of a process that serves: open, batches until a stop is asked for, drain, close."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from perdure.errors import InfrastructureError
from perdure.runtime.collector import collect_seldom
from perdure.runtime.interrupts import interrupt_as_stop
from perdure.threads import WatchedThread

if TYPE_CHECKING:
    from perdure.engine.processor import Engine

_logger: Final = logging.getLogger("perdure.process")

GRACE_S: Final = 10.0
DRAIN_S: Final = 0.1
"""The longest wait for commands while running attempts end: the end of the last one wakes the
engine anyway."""


class Process(ABC):
    """An engine, a worker, or both, in this process.

    A subclass says what is opened, drained and closed. All of it happens on one thread: the
    caller's (`run_forever`) or one of its own (`start`).

    Args:
        parts: what serves here, for the log: "engine", "worker".
    """

    def __init__(self, parts: str) -> None:
        self._parts = parts
        self._thread: WatchedThread | None = None
        self._is_stopping = threading.Event()
        self._grace_s = GRACE_S
        self._fault: BaseException | None = None

    def start(self) -> None:
        """Serve, with the engine in a separate thread; returns once it has opened.

        Raises:
            InfrastructureError: it cannot open; the message says what to do.
        """
        opened = threading.Event()
        self._thread = WatchedThread(target=self._serve_in_thread, args=(opened,), name="perdure-engine")
        self._thread.start()
        while not opened.wait(0.05) and self._thread.is_alive():
            pass
        if self._fault is not None:
            raise self._fault

    def run_forever(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve on this thread until `stop`. Prefer the main thread: there, workflow code that
        blocks can always be interrupted.

        Args:
            ready: called once it has opened.

        Raises:
            InfrastructureError: the database or Kafka cannot be used (any more); the message says
                what to do.
            KeyboardInterrupt: the process was interrupted, and has drained and closed. Not where
                the caller handles SIGINT itself.
        """
        with interrupt_as_stop(self.request_stop):
            self._serve(ready)
        if self._fault is not None:
            raise self._fault

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Stop: running attempts may end within the grace, then the engine closes. From any thread
        but the engine's. Idempotent.

        Args:
            grace_s: seconds.
        """
        self.request_stop(grace_s)
        if self._thread is not None:
            self._thread.join()

    def request_stop(self, grace_s: float = GRACE_S) -> None:
        """Ask for a stop and return immediately; also from a signal handler.

        Args:
            grace_s: seconds that running attempts have to end.
        """
        if not self._is_stopping.is_set():
            self._grace_s = grace_s
            self._is_stopping.set()
            self._wake()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # ---- what a subclass adds

    @property
    @abstractmethod
    def engine(self) -> Engine | None:
        """The engine; None when this process has none. Only its own thread may use it."""

    @abstractmethod
    def _open(self) -> None:
        """Start the side loop and the worker, open the engine."""

    @abstractmethod
    def _wake(self) -> None:
        """End the engine's wait for commands; from any thread."""

    @abstractmethod
    def _drain(self, grace_s: float) -> None:
        """Take no more tasks and wait until running attempts have reported; on a separate thread
        beside the engine's.
        """

    @abstractmethod
    def _close(self) -> None:
        """Close what `_open` opened, even if that failed halfway. Idempotent."""

    # ---- on the engine's thread

    def _serve(self, ready: Callable[[], None]) -> None:
        is_open = False
        collect_seldom()
        try:
            self._open()
            is_open = True
            _logger.info("%s: started", self._parts)
            ready()
            self._run()
        except BaseException as error:  # noqa: BLE001 - start() or run_forever() raises it
            if not self._is_stopping.is_set() or not isinstance(error, InfrastructureError):
                self._fault = error
        finally:
            self._close()
            if is_open:  # else the error says it all
                _logger.info("%s: stopped", self._parts)

    def _serve_in_thread(self, opened: threading.Event) -> None:
        self._serve(opened.set)
        if self._fault is not None and opened.is_set():  # else start() raises it
            raise self._fault

    def _run(self) -> None:
        engine = self.engine
        if engine is None:
            self._is_stopping.wait()
            self._drain_within_grace()
            return
        while not self._is_stopping.is_set():
            engine.run_batch()
        draining = WatchedThread(target=self._drain_and_wake, name="perdure-drain")
        draining.start()
        try:
            while draining.is_alive():
                engine.run_batch(DRAIN_S)
            engine.run_batch(0.0)  # reports that came after the last look
        finally:
            draining.join()

    def _drain_and_wake(self) -> None:
        self._drain_within_grace()
        self._wake()

    def _drain_within_grace(self) -> None:
        _logger.info("%s: stopping; running attempts have %g s to complete", self._parts, self._grace_s)
        self._drain(self._grace_s)
        _logger.info("%s: drained", self._parts)
