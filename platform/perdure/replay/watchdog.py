"""Interrupts code that blocks, from a separate thread, and names its line.

The engine calls `enter` and `leave` around each activation; that is its only cost unless the
activation takes too long. Then `Blocked` is raised in workflow code. On the main thread this is
done by a signal, which also ends `time.sleep` and other waits; on other threads by an asynchronous
exception, which Python code receives at its next instruction, and a wait when it is over. C code
that neither checks for signals nor returns (a runaway regular expression) is only reported. The
activation is discarded and its run suspended: it is never recorded as failed.
"""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, ClassVar, Final

from perdure.outside import PAUSES
from perdure.replay import blame
from perdure.replay.calls import call, watched
from perdure.replay.loop import RunLoop
from perdure.threads import WatchedThread

DEFAULT_LIMIT_S: Final = 2.0
_TICKS_PER_LIMIT: Final = 8
_GUARDED: Final = frozenset((RunLoop.run.__code__, call.__code__, watched.__code__))
_NO_LINE: Final = "a type of yours"
_SIGNAL: Final = getattr(signal, "SIGUSR2", None)
_prototype = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.py_object)
_raise_in = _prototype(("PyThreadState_SetAsyncExc", ctypes.pythonapi))


class Blocked(BaseException):
    """Workflow code blocked the engine for longer than the limit; its run is suspended.

    Attributes:
        where: the file and line that your code had reached when the limit passed.
    """

    latest: ClassVar[tuple[str, str]] = ("workflow code was interrupted", "")
    """Message and place of the exception. Python raises the bare class, without arguments, in the
    interrupted thread, so they are passed on here."""

    where: str

    def __init__(self, message: str = "", where: str = "") -> None:
        if not message:
            message, where = Blocked.latest
        super().__init__(message)
        self.where = where


class Watchdog:
    """Watches the thread that creates it.

    Args:
        limit_s: how long an activation may take, seconds.
        report: gets one sentence when the limit has passed. It is called on the watchdog's thread,
            before the interruption.

    Use:
        watchdog.enter(run_id)
        try:
            ...                     # RunLoop.run, calls.call, calls.evaluate
        finally:
            watchdog.leave()        # raises Blocked when the activation was interrupted, whatever
                                    # the code made of it
    """

    __slots__ = (
        "_activation",
        "_fired_in",
        "_handler",
        "_limit_s",
        "_lock",
        "_report",
        "_stopped",
        "_thread",
        "_thread_id",
    )

    def __init__(self, limit_s: float = DEFAULT_LIMIT_S, report: Callable[[str], None] | None = None) -> None:
        self._limit_s = limit_s
        self._report = report
        self._activation: list[str] | None = None
        self._fired_in: list[str] | None = None
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread_id = threading.get_ident()
        self._handler: Any = None
        if _SIGNAL is not None and threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(_SIGNAL, self._on_signal) or signal.SIG_DFL
        PAUSES[self._thread_id] = self._pause
        self._thread = WatchedThread(target=self._watch, name="perdure-watchdog")
        self._thread.start()

    def enter(self, what: str) -> None:
        """Note that an activation begins: of a run, or of other code, which the text describes."""
        self._fired_in = None
        self._activation = [what]  # a new object each time: two activations of a run are two

    def leave(self) -> None:
        """Note that the activation is over.

        Raises:
            Blocked: the activation was interrupted.
        """
        self._activation = None
        if self._fired_in is not None:
            self._settle()

    def stop(self) -> None:
        """End the watchdog's thread and restore the signal handler. Call it on the watched
        thread.
        """
        self._stopped.set()
        PAUSES.pop(self._thread_id, None)
        self._thread.join()
        if self._handler is not None and _SIGNAL is not None:
            signal.signal(_SIGNAL, self._handler)
            self._handler = None

    def _pause(self) -> Callable[[], None]:
        """Stop watching, and return the activation, which can continue with the whole limit
        again.
        """
        activation, self._activation = self._activation, None

        def proceed() -> None:
            if activation is not None:
                self._activation = [*activation]

        return proceed

    def _settle(self) -> None:
        with self._lock:  # not while it is firing
            if self._handler is None:
                _take_back(self._thread_id)
            self._fired_in = None
        raise Blocked

    def _watch(self) -> None:
        tick_s = self._limit_s / _TICKS_PER_LIMIT
        seen: list[str] | None = None
        ticks = 0
        while not self._stopped.wait(tick_s):
            current = self._activation
            if current is None or current is not seen:
                seen, ticks = current, 0
                continue
            ticks += 1
            if ticks >= _TICKS_PER_LIMIT and self._interrupt(current):
                ticks -= _TICKS_PER_LIMIT // 2  # interrupt again if the code swallows the exception

    def _interrupt(self, current: list[str]) -> bool:
        """Interrupt workflow code; return whether workflow code was running."""
        where = _author_line(sys._current_frames().get(self._thread_id))  # noqa: SLF001 - what it is for
        if not where or self._activation is not current:
            return False
        if self._fired_in is None:
            Blocked.latest = self._sentence(where, current[0]), where
            if self._report is not None:
                self._report(Blocked.latest[0])
        with self._lock:
            # The order matters: announce, check, fire. If the activation ends meanwhile, either
            # this thread sees that it has ended, or `leave` sees that the interruption was fired.
            self._fired_in = current
            if self._activation is not current:
                self._fired_in = None
            elif self._handler is None:
                _raise_in(self._thread_id, Blocked)
            elif _SIGNAL is not None:
                signal.pthread_kill(self._thread_id, _SIGNAL)
        return True

    def _sentence(self, where: str, what: str) -> str:
        what = what if " " in what else f"run {what}"
        return (
            f"{where}: {what} blocked the engine for more than {self._limit_s:g} s. Workflow code "
            "must only decide; put anything that "
            "computes or waits for long into an activity."
        )

    def _on_signal(self, _number: int, frame: FrameType | None) -> None:
        """Raise in workflow code only: the loop around it must stay consistent."""
        if self._activation is not None and self._activation is self._fired_in and _author_line(frame):
            raise Blocked


class _TakenBack(BaseException):
    """Replaces an asynchronous exception that has not arrived."""


def _take_back(thread_id: int) -> None:
    """Take back an exception for this thread that may not have arrived.

    Another one replaces it, and arrives here. To set none would do the first half, but until Python
    3.13 the interpreter then believes for ever that an exception is on its way: all code runs more
    slowly, and a debugger or a profiler hangs.
    """
    try:
        _raise_in(thread_id, _TakenBack)
        while True:  # it arrives where a loop begins again
            pass
    except _TakenBack:
        pass


def _author_line(frame: FrameType | None) -> str:
    """Your innermost running line; empty: other code is running."""
    line = ""
    while frame is not None:
        if frame.f_code in _GUARDED:
            # what we call there may be in C, such as the pattern of a type
            return line or (_NO_LINE if frame.f_code is watched.__code__ else "")
        if not line and blame.is_author(frame):
            line = blame.position(frame)
        frame = frame.f_back
    return ""
