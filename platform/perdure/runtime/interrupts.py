"""Turns signals into calls on a thread, and SIGINT into a stop request instead of an exception.

Python's own handler raises `KeyboardInterrupt` wherever the main thread is, workflow code included.
There it would look like one that the code raised itself, and a run would be recorded as failed
because its operator pressed Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

from perdure.threads import WatchedThread


class SignalRelay:
    """Calls a function on a thread of its own for each signal that a handler sends.

    A signal handler runs between two instructions of the main thread, which may hold any lock: that
    of an `Event`, of the table of threads, of standard error, or of the handler itself when a
    second signal interrupts it. A handler that takes that lock waits for ever, and so does the
    process. So a handler only calls `send`, which takes none: it writes a byte to a thread that was
    started before.

    Args:
        handle: gets the number of each signal.
    """

    def __init__(self, handle: Callable[[int], None]) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._thread = WatchedThread(target=self._relay, name="perdure-signals", args=(handle,))
        self._thread.start()

    def send(self, number: int) -> None:
        """Pass a signal on. Only for signal handlers, and not after `close`."""
        with suppress(BlockingIOError):  # thousands are waiting: one more says nothing new
            os.write(self._writing, bytes((number,)))

    def close(self) -> None:
        """Wait until the signals that were sent are handled, and end the thread."""
        os.close(self._writing)
        self._thread.join()

    def _relay(self, handle: Callable[[int], None]) -> None:
        while number := os.read(self._reading, 1):
            handle(number[0])
        os.close(self._reading)


@contextmanager
def interrupt_as_stop(request_stop: Callable[[], None]) -> Generator[None]:
    """Context in which SIGINT calls a function; raises `KeyboardInterrupt` at the end if one
    arrived.

    Does nothing where SIGINT has a handler of the caller's already, or on another thread than the
    main one.

    Args:
        request_stop: returns immediately. It runs on a separate thread.

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
    relay = SignalRelay(lambda _: request_stop())

    def on_interrupt(number: int, _: object) -> None:
        came.append(number)
        # a second one does not wait: like any kill, it loses no data
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        relay.send(number)

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        relay.close()
    if came:
        raise KeyboardInterrupt
