"""Detects, from another thread, that an asyncio loop is blocked, and by which activity.

An `async def` activity that computes, or makes a blocking call, blocks everything else on its loop:
other activities, heartbeats, timeouts. No code on the loop can report that.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Final

from perdure.activity import Attempt
from perdure.replay import blame
from perdure.threads import WatchedThread, add_pulse, remove_pulse

if TYPE_CHECKING:
    from perdure.activity import Info

PING_S: Final = 0.5
BLOCKED_S: Final = 2.0
"""A loop that has not made a turn for this long is blocked."""

_logger: Final = logging.getLogger("perdure.worker")


class LoopWatch:
    """Watches one loop, from `start` to `stop`. A `threads.Pulse`.

    Args:
        loop: runs in the thread, or is about to.
        name: for people.
        thread_id: returns the loop's thread; None: the loop does not run.

    Attributes:
        name: for people.
        trouble: what blocks the loop; empty if it runs.
        on_blocked: called with the blocking attempt and `trouble`, on the watch's thread.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, name: str, thread_id: Callable[[], int | None]
    ) -> None:
        self.name = name
        self.trouble = ""
        self.on_blocked: Callable[[Info, str], None] = _nothing
        self._loop = loop
        self._thread_id = thread_id
        self._pinged_at = 0.0
        self._beaten = threading.Event()
        self._stopping = threading.Event()
        self._thread = WatchedThread(target=self._run, name=f"{name}-watch")

    @property
    def silent_s(self) -> float:
        """How long the loop has been overdue, seconds."""
        pinged_at = self._pinged_at
        return 0.0 if not pinged_at or self._beaten.is_set() else monotonic() - pinged_at

    def start(self) -> None:
        """Start watching."""
        add_pulse(self)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching. Idempotent."""
        remove_pulse(self)
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(PING_S):
            self._beaten.clear()
            self._pinged_at = monotonic()
            try:
                self._loop.call_soon_threadsafe(self._beaten.set)
            except RuntimeError:  # the loop is closed: `threads` reports the end of its thread
                remove_pulse(self)
                return
            while not self._beaten.wait(PING_S) and not self._stopping.is_set():
                if self.silent_s >= BLOCKED_S and not self.trouble:
                    self._tell()
            if self.trouble:
                _logger.warning("%s continues after %.1f s", self.name, monotonic() - self._pinged_at)
                self.trouble = ""

    def _tell(self) -> None:
        thread_id = self._thread_id()
        frame = sys._current_frames().get(thread_id) if thread_id is not None else None  # noqa: SLF001 - what it is for
        where, info = _author(frame)
        what = f"activity {info.activity}" if info else "something"
        at = f" at {where}" if where else ""
        self.trouble = f"{self.name} is blocked by {what}{at}"
        _logger.warning(
            "%s, for %.1f s; nothing else runs there. Await long operations, or make the activity a plain "
            "function, which runs in a thread",
            self.trouble,
            self.silent_s,
            extra={"workflow_id": info.workflow_id, "run_id": info.run_id} if info else {},
        )
        if info is not None:
            self.on_blocked(info, self.trouble)


def _author(frame: FrameType | None) -> tuple[str, Info | None]:
    """Your innermost line, and the attempt it belongs to."""
    where = ""
    while frame is not None:
        if not where and blame.is_author(frame):
            where = blame.position(frame)
        if frame.f_globals.get("__name__") == _ATTEMPTS:
            attempt = frame.f_locals.get("attempt")
            if isinstance(attempt, Attempt):
                return where, attempt.info
        frame = frame.f_back
    return where, None


def _nothing(_info: Info, _trouble: str) -> None:
    pass


_ATTEMPTS: Final = "perdure.worker.attempt"
