"""The time limits of attempts.

`asyncio.timeout` arms a timer of the loop for each attempt and cancels it when the attempt ends,
which costs more than all else that the worker does for a short attempt. Here one timer serves all
attempts: it is armed for the earliest deadline, and most attempts have ended when it fires.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Any

Alarm = Callable[[float, Callable[[], None]], Callable[[], None]]
"""Calls a function after some seconds; returns a function that cancels this."""
Heartbeat = Callable[[tuple[object, ...]], None]


class Deadlines:
    """The deadlines of running attempts, by attempt. For the loop that runs them."""

    __slots__ = ("_due", "_loop", "_timer", "_timer_at")

    def __init__(self) -> None:
        self._due: dict[TimeLimit, float] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf

    def add(self, limit: TimeLimit, at: float, loop: asyncio.AbstractEventLoop) -> None:
        """Have a limit expire.

        Args:
            limit: the limit of an attempt.
            at: when, by the loop's clock, seconds.
            loop: the running loop.
        """
        self._due[limit] = at
        if at < self._timer_at or loop is not self._loop:
            self._arm(at, loop)

    def remove(self, limit: TimeLimit) -> None:
        """The attempt has ended. Idempotent."""
        self._due.pop(limit, None)

    def _arm(self, at: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._loop, self._timer_at = loop, at
        self._timer = loop.call_at(at, self._look)

    def _look(self) -> None:
        """Expire what is due, and wait for the earliest of the rest."""
        self._timer, self._timer_at = None, inf
        loop = self._loop
        assert loop is not None
        now = loop.time()
        for limit in [each for each, at in self._due.items() if at <= now]:
            del self._due[limit]
            limit.expire()
        if self._due:
            self._arm(min(self._due.values()), loop)


class TimeLimit:
    """The time limit of an attempt, which runs from `begin`; and of silence between heartbeats.

    When it is over, the attempt's asyncio task is cancelled, as by `asyncio.timeout`.

    Args:
        task: the asyncio task of the attempt.
        seconds: the longest time from `begin`.
        silence_s: the longest time between heartbeats; 0: no limit.
        deadlines: of the worker.
        alarm: measures the time; None: the loop's clock does.

    Attributes:
        has_expired: the time is over.
        is_silent: it was the silence that was too long.
    """

    # Values of the class, which most attempts keep: one is made for each attempt.
    _call_off: Callable[[], None] | None = None
    _call_off_silence: Callable[[], None] | None = None
    _began_at = 0.0
    _has_ended = False
    has_expired = False
    is_silent = False

    def __init__(
        self,
        task: asyncio.Task[Any],
        seconds: float,
        silence_s: float,
        *,
        deadlines: Deadlines,
        alarm: Alarm | None,
    ) -> None:
        self._task = task
        self._cancelled_before = task.cancelling()
        self._seconds = seconds
        self._silence_s = silence_s
        self._deadlines = deadlines
        self._alarm = alarm

    @property
    def ran_us(self) -> int:
        """How long the function has run, microseconds; 0 if the loop's clock does not measure
        it.
        """
        return int((asyncio.get_running_loop().time() - self._began_at) * 1e6) if self._began_at else 0

    def begin(self) -> None:
        """The function begins."""
        if self._has_ended:
            return
        if self._alarm is None:
            loop = asyncio.get_running_loop()
            self._began_at = now = loop.time()
            self._deadlines.add(self, now + self._seconds, loop)
        else:
            self._call_off = self._alarm(self._seconds, self.expire)
        if self._silence_s:
            self._listen()

    def end(self) -> None:
        """The attempt has ended."""
        self._has_ended = True
        self._deadlines.remove(self)
        if self._call_off is not None:
            self._call_off()
        if self._call_off_silence is not None:
            self._call_off_silence()
            self._silence_s = 0.0

    def has_cancelled(self) -> bool:
        """Whether a `CancelledError` of the task is the work of this limit alone, and not also of
        the platform or of the function itself.
        """
        return self.has_expired and self._task.cancelling() == self._cancelled_before + 1

    def expire(self) -> None:
        """The time is over: cancel the attempt."""
        if not (self.has_expired or self._has_ended):
            self.has_expired = True
            self._task.cancel()

    def heard(self, heartbeat: Heartbeat) -> Heartbeat:
        """The function for heartbeats, which also ends the silence; from any thread."""
        loop = asyncio.get_running_loop()

        def beat(details: tuple[object, ...]) -> None:
            heartbeat(details)
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(self._listen)

        return beat

    def _listen(self) -> None:
        if not self._silence_s:
            return
        if self._call_off_silence is not None:
            self._call_off_silence()
        if self._alarm is None:
            timer = asyncio.get_running_loop().call_later(self._silence_s, self._expire_silence)
            self._call_off_silence = timer.cancel
        else:
            self._call_off_silence = self._alarm(self._silence_s, self._expire_silence)

    def _expire_silence(self) -> None:
        if not self.has_expired:
            self.is_silent = True
            self.expire()
