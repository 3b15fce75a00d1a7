"""Handles SIGINT and SIGTERM for every command that runs until it is stopped, and the loss of a
thread, which also stops the process.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Final

from perdure import threads
from perdure.cli.options.metrics import say
from perdure.errors import InfrastructureError
from perdure.runtime.interrupts import SignalRelay
from perdure.threads import WatchedThread

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


EXIT_S: Final = 10.0
"""How long a process that has lost a thread may take to stop in good order."""


class LostThread:
    """Stops the process when a thread that it depends on dies, since only a new process can replace
    the thread.

    Args:
        stop: asks for the stop.
        grace_s: how long running attempts may take at the stop, seconds.
    """

    def __init__(self, stop: Callable[[], None], grace_s: float = 0.0) -> None:
        self._stop = stop
        self._grace_s = grace_s
        self._message = ""
        threads.listen(self._died)

    def check(self) -> None:
        """Raise if a lost thread was the reason for the stop. Called when everything has stopped.

        Raises:
            InfrastructureError: it was.
        """
        if self._message:
            raise InfrastructureError(f"{self._message}; the process exited so that another one takes over")

    def _died(self, message: str) -> None:
        if not self._message:
            self._message = message
            WatchedThread(target=self._end, name="perdure-stop").start()

    def _end(self) -> None:
        self._stop()
        time.sleep(self._grace_s + EXIT_S)
        say(f"perdure: {self._message}; the process could not stop cleanly and exits now")
        os._exit(1)


def on_signals(handle: Callable[[int], None]) -> None:
    """Call a function with the number of each SIGINT and SIGTERM.

    Args:
        handle: runs on a separate thread, since the interrupted main thread may hold any lock.
    """
    relay = SignalRelay(handle)

    def called(number: int, _frame: FrameType | None) -> None:
        relay.send(number)

    signal.signal(signal.SIGINT, called)
    signal.signal(signal.SIGTERM, called)


def stop_on_signal(stop: Callable[[], None]) -> Callable[[], bool]:
    """Call a function once when the process is asked to stop. A second Ctrl-C ends the process
    without waiting.

    Args:
        stop: requests the stop. It runs on a separate thread, since the interrupted main thread may
            hold any lock.

    Returns:
        A function that says whether a signal has arrived.
    """
    came: list[int] = []

    def end(number: int) -> None:
        say(f"stopping ({signal.Signals(number).name})")
        stop()

    relay = SignalRelay(end)

    def called(number: int, _frame: FrameType | None) -> None:
        # a second Ctrl-C does not wait, and is not raised in your code
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if not came:
            came.append(number)
            relay.send(number)

    signal.signal(signal.SIGINT, called)
    signal.signal(signal.SIGTERM, called)
    return lambda: bool(came)
