"""The exchange inside one process: commands from any thread to the engine; replies, tasks and
states back to subscribers.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING

from perdure.adapters.process.deliveries import Deliveries

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from perdure.model.commands import AnyCommand


class Channel:
    """Belongs to a log; clients and workers of the process hold it.

    Any thread may call `submit` and `wake`. `wait`, `take`, `settle` and `abort` belong to the
    engine's thread, through the log.

    Attributes:
        deliveries: what commits give to subscribers.
        has_ended: whether the engine has ended, and no other has started yet.
    """

    def __init__(self) -> None:
        self.has_ended = False
        self._inbox: deque[Sequence[AnyCommand]] = deque()
        self._bell = Lock()  # held until something was put into the inbox
        self._bell.acquire()
        self._ready: deque[AnyCommand] = deque()
        self._taken: list[AnyCommand] = []
        self.deliveries = Deliveries()

    # ---- commands

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        """Submit commands; `take` returns them in this order."""
        self._inbox.append(commands)
        if self._bell.locked():
            with suppress(RuntimeError):  # another thread has just rung it
                self._bell.release()

    def wake(self) -> None:
        """Make `wait` return."""
        self.submit(())

    def wait(self, timeout_s: float) -> bool:
        """Wait until something is submitted or `wake` is called; returns immediately if commands
        are waiting.

        Returns:
            False when the time has passed.
        """
        if self._drain() or self._ready:
            return True
        return timeout_s > 0 and self.wait_for_more(timeout_s)

    def wait_for_more(self, timeout_s: float) -> bool:
        """Like `wait`, but ignores commands that are already waiting.

        The lock is our own, since `queue.SimpleQueue.get` with a timeout may wait for ever: a
        thread that loses the processor inside it computes a time left that is negative, and to its
        lock that means no limit (`simplequeue_get` of CPython's _queuemodule.c; `Lock.acquire`
        looks).
        """
        until = monotonic() + timeout_s
        while not self._drain():
            left_s = until - monotonic()
            if left_s <= 0 or not self._bell.acquire(timeout=left_s):
                return self._drain()
        return True

    def take(self, limit: int) -> list[AnyCommand]:
        """Take up to `limit` commands."""
        self._drain()
        ready = self._ready
        if len(ready) <= limit:
            commands = list(ready)
            ready.clear()
        else:
            commands = [ready.popleft() for _ in range(limit)]
        self._taken += commands
        return commands

    @property
    def has_commands(self) -> bool:
        """Whether submitted commands are waiting; from any thread."""
        return bool(self._ready or self._inbox)

    def settle(self) -> None:
        """The taken commands are committed."""
        self._taken.clear()

    @property
    def taken(self) -> Sequence[AnyCommand]:
        """Commands taken and not yet settled."""
        return self._taken

    def abort(self) -> None:
        """Hand out again, in order, what was taken and is not settled."""
        self._ready.extendleft(reversed(self._taken))
        self._taken.clear()

    def remove(self, ids: Container[int]) -> None:
        """Forget commands that are not taken, by their object's `id`."""
        self._drain()
        kept = [command for command in self._ready if id(command) not in ids]
        self._ready.clear()
        self._ready.extend(kept)

    def _drain(self) -> bool:
        inbox, ready = self._inbox, self._ready
        has_any = False
        while inbox:
            ready.extend(inbox.popleft())
            has_any = True
        return has_any

    # ---- the engine comes and goes

    def begin(self) -> None:
        """An engine has opened the log."""
        self.has_ended = False

    def end(self) -> None:
        """The engine has closed the log."""
        self.has_ended = True
        self.deliveries.end()
