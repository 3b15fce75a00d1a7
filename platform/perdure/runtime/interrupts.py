"""Turns SIGINT into a stop request instead of an exception.

Python's own handler raises `KeyboardInterrupt` wherever the main thread is, workflow code included.
There it would look like one that the code raised itself, and a run would be recorded as failed
because its operator pressed Ctrl-C.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

from perdure.threads import WatchedThread


@contextmanager
def interrupt_as_stop(request_stop: Callable[[], None]) -> Generator[None]:
    """Context in which SIGINT calls a function; raises `KeyboardInterrupt` at the end if one
    arrived.

    Does nothing where SIGINT has a handler of the caller's already, or on another thread than the
    main one.

    Args:
        request_stop: returns immediately.

    Raises:
        KeyboardInterrupt: SIGINT came.
    """
    is_ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not is_ours:
        yield
        return
    came: list[int] = []

    def on_interrupt(number: int, _: object) -> None:
        came.append(number)
        # a second one does not wait: like any kill, it loses no data
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        # the main thread may hold any lock just now
        WatchedThread(target=request_stop, name="perdure-stop").start()

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if came:
        raise KeyboardInterrupt
