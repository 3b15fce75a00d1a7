"""Durable deadlines."""

from __future__ import annotations

from enum import IntEnum

from msgspec import Struct


class TimerKind(IntEnum):
    """Purpose of a timer."""

    CODE = 1
    RETRY = 2
    GIVE_UP = 3
    TIMEOUT = 4
    BEGIN = 5
    TOKEN = 6
    ANSWER = 7


class Timer(Struct, array_like=True, frozen=True, order=True, gc=False):
    """A durable deadline; timers order by time, then by run and number.

    Attributes:
        fires_at: microseconds.
        run_id: the run that it belongs to.
        kind: its purpose.
        number: the number of the code's timer, activity or token; 0 for kinds of which a run has
            only one.
        workflow_id: the run's workflow id.
    """

    fires_at: int
    run_id: str
    kind: TimerKind
    number: int
    workflow_id: str
