"""The machine of one timer of the code: armed, then fired or cancelled, once.

A timer that is started and cancelled in one activation never happened and leaves no event. One that fires after it was cancelled, or
a second time, is ignored.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from perdure.model import events as ev


class TimerStatus(IntEnum):
    """Where a timer is."""

    ARMED = 1
    FIRED = 2
    CANCELLED = 3


TRANSITIONS: Final[dict[tuple[TimerStatus, type[ev.Event]], TimerStatus]] = {
    (TimerStatus.ARMED, ev.TimerFired): TimerStatus.FIRED,
    (TimerStatus.ARMED, ev.TimerCancelled): TimerStatus.CANCELLED,
}


def evolve(timers: dict[int, int], event: ev.TimerStarted | ev.TimerFired | ev.TimerCancelled) -> None:
    """Keep the armed timers, number to `fires_at`.

    Raises:
        KeyError: the table has no such row: a bug of ours.
    """
    if isinstance(event, ev.TimerStarted):
        timers[event.number] = event.fires_at
        return
    status = TimerStatus.ARMED if event.number in timers else TimerStatus.FIRED
    TRANSITIONS[status, type(event)]
    del timers[event.number]
