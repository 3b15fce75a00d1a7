"""The machine of one timer of the code: armed, then fired or cancelled, once.

A timer that is started and cancelled in one activation never happened and leaves no event. One that
fires after it was cancelled, or a second time, is ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from heapq import nsmallest
from typing import Final

from perdure.core.machine import (
    NOTHING,
    ActionRule,
    Cancelling,
    Decision,
    Machine,
    Outbox,
    Stamp,
    same_number,
)
from perdure.core.state import RunState
from perdure.model import actions as ac
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.states import Wait
from perdure.model.timers import Timer, TimerKind


class Summaries(dict[int, str]):
    """The summaries of the armed timers that have one, by number."""


class TimerStatus(IntEnum):
    """Status of a timer."""

    ARMED = 1
    FIRED = 2
    CANCELLED = 3


TRANSITIONS: Final[dict[tuple[TimerStatus, type[ev.Event]], TimerStatus]] = {
    (TimerStatus.ARMED, ev.TimerFired): TimerStatus.FIRED,
    (TimerStatus.ARMED, ev.TimerCancelled): TimerStatus.CANCELLED,
}


def _fire(run: RunState, command: cm.FireTimer, stamp: Stamp) -> Decision:
    fires_at = run.timers.get(command.number)
    if fires_at is None or fires_at > stamp.at:
        return NOTHING
    return Decision((ev.TimerFired(command.number),))


def _on_started(run: RunState, event: ev.TimerStarted, outbox: Outbox | None) -> None:
    run.timers[event.number] = event.fires_at
    if event.summary:
        run.part(Summaries)[event.number] = event.summary
    if outbox is not None:
        outbox.arm(_timer(run, event.number, event.fires_at))


def _on_ended(run: RunState, event: ev.TimerFired | ev.TimerCancelled, outbox: Outbox | None) -> None:
    # A run keeps no timer that has ended; one that is not there takes the row that the table does
    # not have.
    status = TimerStatus.ARMED if event.number in run.timers else TimerStatus.FIRED
    TRANSITIONS[status, type(event)]
    fires_at = run.timers.pop(event.number)
    if run.parts:
        summaries_of(run).pop(event.number, None)
    if outbox is not None:
        outbox.disarm(_timer(run, event.number, fires_at))


def _close(run: RunState, outbox: Outbox | None) -> None:
    if outbox is not None:
        for number, fires_at in run.timers.items():
            outbox.disarm(_timer(run, number, fires_at))
    run.timers.clear()
    if run.parts:
        summaries_of(run).clear()


def summaries_of(run: RunState) -> dict[int, str]:
    """The summaries of its armed timers, by number; only those of timers that have one."""
    found: dict[int, str] | None = run.parts.get(Summaries) if run.parts else None
    return {} if found is None else found


def _timer(run: RunState, number: int, fires_at: int) -> Timer:
    return Timer(fires_at, run.run_id, TimerKind.CODE, number, run.workflow_id)


def _start(run: RunState, action: ac.StartTimer, token: Callable[[], str]) -> ev.AnyEvent:
    return ev.TimerStarted(action.number, action.fires_at, action.summary)


def _cancel(run: RunState, action: ac.CancelTimer, token: Callable[[], str]) -> ev.AnyEvent | None:
    return ev.TimerCancelled(action.number) if action.number in run.timers else None


def _waits(run: RunState, limit: int) -> list[Wait]:
    """The timers that fire first."""
    timers = ((fires_at, number) for number, fires_at in run.timers.items())
    summaries = summaries_of(run)
    return [
        Wait("timer", "", number, due_at=fires_at, summary=summaries.get(number, ""))
        for fires_at, number in nsmallest(limit, timers)
    ]


MACHINE: Final = Machine(
    name="timer",
    states=TimerStatus,
    transitions=TRANSITIONS,
    decide={cm.FireTimer: _fire},
    record={ev.TimerStarted: _on_started, ev.TimerFired: _on_ended, ev.TimerCancelled: _on_ended},
    actions={
        ac.StartTimer: ActionRule(
            event=ev.TimerStarted,
            to_event=_start,
            fits=same_number,
            in_words="timer {0.number} started".format,
        ),
        ac.CancelTimer: ActionRule(
            event=ev.TimerCancelled,
            to_event=_cancel,
            fits=same_number,
            in_words="timer {0.number} cancelled".format,
        ),
    },
    cancelling={
        ac.CancelTimer: Cancelling(opened_by=ev.TimerStarted, closed_by=(ev.TimerFired, ev.TimerCancelled)),
    },
    wakes=frozenset({ev.TimerFired}),
    due={TimerKind.CODE: lambda timer: cm.FireTimer(timer.workflow_id, timer.run_id, number=timer.number)},
    holds="timers",
    waits=_waits,
    timers=lambda run: [_timer(run, number, fires_at) for number, fires_at in run.timers.items()],
    close=_close,
)
