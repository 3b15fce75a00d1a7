"""SIGINT and SIGTERM: stop in good order; a second Ctrl-C does not wait."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

from perdure.cli.observing import say

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


def stop_on_signal(stop: Callable[[], None]) -> threading.Event:
    """Call a function once when the process is asked to stop.

    Args:
        stop: asks for the stop. It runs in a thread of its own, for the main thread may hold any lock just then.

    Returns:
        Set as soon as a signal has come.
    """
    is_signalled = threading.Event()

    def end(number: int) -> None:
        say(f"stopping ({signal.Signals(number).name})")
        stop()

    def handle(number: int, _frame: FrameType | None) -> None:
        is_signalled.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        threading.Thread(target=end, args=(number,), name="perdure-stop").start()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    return is_signalled
