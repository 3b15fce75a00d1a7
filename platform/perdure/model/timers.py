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
        run_id: whose it is.
        kind: what it is for.
        number: of the code's timer, of the activity or token; 0 where the run has only one.
        workflow_id: the address of the run.
    """

    fires_at: int
    run_id: str
    kind: TimerKind
    number: int
    workflow_id: str
