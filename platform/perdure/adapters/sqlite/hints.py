"""Hints between processes of one machine: an empty datagram to a loopback port means "look again".

Nothing depends on them: waiting processes poll anyway, and a foreign datagram does no harm.
"""

from __future__ import annotations

import errno
import select
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from perdure.threads import WatchedThread

if TYPE_CHECKING:
    from collections.abc import Callable


class Hints:
    """A socket that receives and sends hints."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]

    def give(self, port: int) -> None:
        """Send a hint to the port."""
        if port:
            with suppress(OSError):
                self._socket.sendto(b"", ("127.0.0.1", port))

    def wait(self, timeout_s: float | None) -> bool:
        """Wait for a hint, and clear all that came."""
        readable, _, _ = select.select([self._socket], [], [], timeout_s)
        if not readable:
            return False
        with suppress(OSError):
            while True:
                self._socket.recv(1)
        return True

    def close(self) -> None:
        """Idempotent."""
        self._socket.close()


def is_heard(port: int) -> bool:
    """Whether some process of this machine listens to the port: that of a process that has died is
    free again.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


class HintListener:
    """A thread that calls `on_hint` for each hint, until it is closed."""

    def __init__(self, on_hint: Callable[[], None]) -> None:
        self._on_hint = on_hint
        self._hints = Hints()
        self._is_closing = False
        self._thread = WatchedThread(target=self._listen, name="perdure-hints")
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that receives hints."""
        return self._hints.port

    def give(self, port: int) -> None:
        """Send a hint to the port."""
        self._hints.give(port)

    def close(self) -> None:
        """Idempotent."""
        if not self._is_closing:
            self._is_closing = True
            self._hints.give(self._hints.port)
            self._thread.join()
            self._hints.close()

    def _listen(self) -> None:
        while True:
            self._hints.wait(None)
            if self._is_closing:
                return
            self._on_hint()
