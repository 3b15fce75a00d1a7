"""The machine of one compensation: what undoes a step of a saga that failed.

The code calls it, and calls it again if it may be retried. One that succeeds the first time leaves
no event. The events say what people want to know: how often one has failed, and that a step was not
undone.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from itertools import islice
from typing import Any, Final, NamedTuple

from perdure.core.machine import ActionRule, Machine, Outbox, same_number
from perdure.core.state import RunState
from perdure.model import actions as ac
from perdure.model import events as ev
from perdure.model.failure import BRIEF_BYTES, FailureInfo, bounded, head, text_of
from perdure.model.states import Wait


class CompensationStatus(IntEnum):
    """Status of a compensation."""

    RUNNING = 1
    RETRYING = 2
    COMPLETED = 3
    FAILED = 4


class CompensationState(NamedTuple):
    """A compensation that has failed, and has another attempt.

    Attributes:
        name: of the function.
        failed_at: when it failed first, microseconds.
        attempt: the current one, from 2.
        failure: of the attempt before.
        retry_at: when the current attempt began, or begins, microseconds.
    """

    name: str
    failed_at: int
    attempt: int
    failure: FailureInfo
    retry_at: int


class Compensations(dict[int, CompensationState]):
    """Those that have failed and are tried again, by number."""


_S = CompensationStatus

TRANSITIONS: Final[dict[tuple[CompensationStatus, type[ev.Event]], CompensationStatus]] = {
    (_S.RUNNING, ev.CompensationAttemptFailed): _S.RETRYING,
    (_S.RUNNING, ev.CompensationFailed): _S.FAILED,
    (_S.RETRYING, ev.CompensationAttemptFailed): _S.RETRYING,
    (_S.RETRYING, ev.CompensationCompleted): _S.COMPLETED,
    (_S.RETRYING, ev.CompensationFailed): _S.FAILED,
}

SAID_BYTES: Final = 1024
"""Of what the public state says of the compensations that failed, all together."""
FULL_FAILURES: Final = 10
"""The number of attempts whose failures are recorded in full, as of activities."""


# ---- record: the events


def _move(run: RunState, event: Any) -> None:
    """Take a row of the table. A compensation that has not failed is not kept."""
    is_known = event.number in run.part(Compensations)
    TRANSITIONS[_S.RETRYING if is_known else _S.RUNNING, type(event)]


def _on_attempt_failed(run: RunState, event: ev.CompensationAttemptFailed, outbox: Outbox | None) -> None:
    _move(run, event)
    compensations = run.part(Compensations)
    before = compensations.get(event.number)
    failed_at = run.last_at if before is None else before.failed_at
    compensations[event.number] = CompensationState(
        event.name, failed_at, event.attempt + 1, event.failure, event.retry_at
    )


def _on_completed(run: RunState, event: ev.CompensationCompleted, outbox: Outbox | None) -> None:
    _move(run, event)
    run.part(Compensations).pop(event.number, None)


def _on_failed(run: RunState, event: ev.CompensationFailed, outbox: Outbox | None) -> None:
    _move(run, event)
    run.part(Compensations).pop(event.number, None)
    said = f"not undone: {event.name}: {text_of(event.failure)}"
    run.uncompensated = head(f"{run.uncompensated}; {said}" if run.uncompensated else said, SAID_BYTES)


def _close(run: RunState, outbox: Outbox | None) -> None:
    run.part(Compensations).clear()


# ---- actions, and what people read


def _retry(run: RunState, action: ac.RetryCompensation, token: Callable[[], str]) -> ev.AnyEvent:
    failure = bounded(action.failure)
    if action.attempt > FULL_FAILURES:
        failure = bounded(failure, BRIEF_BYTES)
    return ev.CompensationAttemptFailed(action.number, action.name, action.attempt, failure, action.retry_at)


def _complete(run: RunState, action: ac.CompleteCompensation, token: Callable[[], str]) -> ev.AnyEvent:
    return ev.CompensationCompleted(action.number)


def _fail(run: RunState, action: ac.FailCompensation, token: Callable[[], str]) -> ev.AnyEvent:
    return ev.CompensationFailed(action.number, action.name, bounded(action.failure), action.attempts)


def _waits(run: RunState, limit: int) -> list[Wait]:
    return [
        Wait("compensation", each.name, number, each.attempt, each.failed_at, each.retry_at)
        for number, each in islice(run.part(Compensations).items(), limit)
    ]


MACHINE: Final = Machine(
    name="compensation",
    states=CompensationStatus,
    transitions=TRANSITIONS,
    record={
        ev.CompensationAttemptFailed: _on_attempt_failed,
        ev.CompensationCompleted: _on_completed,
        ev.CompensationFailed: _on_failed,
    },
    actions={
        ac.RetryCompensation: ActionRule(
            event=ev.CompensationAttemptFailed,
            to_event=_retry,
            fits=same_number,
            in_words="attempt {0.attempt} of compensation {0.number} failed".format,
        ),
        ac.CompleteCompensation: ActionRule(
            event=ev.CompensationCompleted,
            to_event=_complete,
            fits=same_number,
            in_words="compensation {0.number} completed".format,
        ),
        ac.FailCompensation: ActionRule(
            event=ev.CompensationFailed,
            to_event=_fail,
            fits=same_number,
            in_words="compensation {0.number} failed".format,
        ),
    },
    waits=_waits,
    close=_close,
    holds=Compensations,
)
