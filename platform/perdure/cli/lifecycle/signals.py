"""Handles SIGINT and SIGTERM for every command that runs until it is stopped, and the loss of a
thread, which also stops the process.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Final

from perdure import threads
from perdure.cli.options.metrics import say
from perdure.errors import InfrastructureError
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
        handle: must return immediately. It runs on the main thread, between any two of its
            instructions.
    """

    def called(number: int, _frame: FrameType | None) -> None:
        handle(number)

    signal.signal(signal.SIGINT, called)
    signal.signal(signal.SIGTERM, called)


def stop_on_signal(stop: Callable[[], None]) -> threading.Event:
    """Call a function once when the process is asked to stop. A second Ctrl-C ends the process
    without waiting.

    Args:
        stop: requests the stop. It runs in a separate thread, since the interrupted main thread may
            hold any lock.

    Returns:
        An event that is set as soon as a signal has arrived.
    """
    is_signalled = threading.Event()

    def end(number: int) -> None:
        say(f"stopping ({signal.Signals(number).name})")
        stop()

    def handle(number: int) -> None:
        is_signalled.set()
        # a second Ctrl-C does not wait, and is not raised in your code
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        WatchedThread(target=end, args=(number,), name="perdure-stop").start()

    on_signals(handle)
    return is_signalled
