"""The engine's time: the time of day while it can be trusted, otherwise the monotonic clock.

`at` must never go back (invariant I4). Nor may a clock that was set back delay timers until it
reaches its old maximum. So:

- **Behind**: the time of day is before the last stamp: the clock was ahead once, here or in another
  process that owned these partitions. Time continues from the last stamp at the speed of the
  monotonic clock. Timers that are set meanwhile fire after the time asked for, never before.
- **A jump ahead**: the time of day has gained more than `JUMP_US` on the monotonic clock since the
  last stamp. The engine does not follow it immediately: each timer would fire early by that much,
  and a stamp cannot be taken back. The engine follows when the jump has lasted for
  `BELIEVED_AFTER_US`; so a clock that is wrong for a moment has no effect. Smaller steps, such as
  NTP's, are followed.
- **At the start** the last recorded stamp is all that the time of day can be compared with. The
  time of day is trusted.

A machine that sleeps causes no jump: `Clock.elapsed` continues meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from perdure.engine.operator_log import Report
    from perdure.engine.ports import Clock

JUMP_US: Final = 60_000_000
"""A forward jump larger than this is not followed immediately."""
BELIEVED_AFTER_US: Final = 300_000_000
"""A jump that has lasted this long is taken for the right time."""
WARN_US: Final = 5_000_000
"""A stamp that is ahead of the time of day by less than this causes no warning."""


class HybridClock:
    """Makes stamps that never go back. Not thread-safe.

    Args:
        clock: the time of day, and the monotonic clock.
        report: gets one warning each time that the two clocks begin to disagree.

    Attributes:
        ahead_us: last stamp minus the time of day, microseconds; negative while the engine does not
            follow a jump.
    """

    __slots__ = ("_at", "_clock", "_elapsed", "_has_warned", "_jumped_at", "_report", "ahead_us")

    def __init__(self, clock: Clock, report: Report) -> None:
        self._clock = clock
        self._report = report
        self._at = 0
        self._elapsed = 0
        self._jumped_at: int | None = None
        self._has_warned = False
        self.ahead_us = 0

    @property
    def last(self) -> int:
        """The last stamp, microseconds since 1970; 0 before the first."""
        return self._at

    def raise_to(self, at: int) -> None:
        """Make no stamp before `at` from now on: a stamp of that time is recorded.

        Args:
            at: microseconds since 1970.
        """
        if not self._at:  # at the start the time of day is trusted: the engine may have been down for days
            self._at, self._elapsed = self._clock.now(), self._clock.elapsed()
        if at > self._at:
            self._at, self._elapsed = at, self._clock.elapsed()

    def now(self) -> int:
        """The next stamp, microseconds since 1970; never before the previous one."""
        day, elapsed = self._clock.now(), self._clock.elapsed()
        at = day
        if self._at:
            expected = self._at + max(0, elapsed - self._elapsed)
            if day < expected:
                at = expected
                self._jumped_at = None
            elif day - expected > JUMP_US:
                at = self._after_jump(expected, day, elapsed)
            else:
                self._jumped_at = None
        self._at, self._elapsed = at, elapsed
        self.ahead_us = at - day
        if abs(self.ahead_us) > WARN_US:
            self._warn()
        else:
            self._has_warned = False
        return at

    def _after_jump(self, expected: int, day: int, elapsed: int) -> int:
        if self._jumped_at is None:
            self._jumped_at = elapsed
        if elapsed - self._jumped_at < BELIEVED_AFTER_US:
            return expected
        self._jumped_at = None
        return day

    def _warn(self) -> None:
        if self._has_warned:
            return
        self._has_warned = True
        seconds = abs(self.ahead_us) / 1e6
        if self.ahead_us > 0:
            self._report(
                f"this machine's clock is {seconds:,.0f} s behind the last recorded time: it was ahead "
                "before, here or on another "
                "machine that ran an engine, or it is slow now. Timers continue by the monotonic clock from "
                "the last recorded time; "
                "nothing stops. Check that the clocks of all machines are synchronised."
            )
        else:
            self._report(
                f"this machine's clock has jumped ahead by {seconds:,.0f} s. The engine follows it once it "
                "has stayed there for "
                f"{BELIEVED_AFTER_US // 1_000_000} s; until then timers use the monotonic clock. Check that "
                "it is synchronised."
            )
