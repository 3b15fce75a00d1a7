"""Turns outcomes of activities into values and exceptions of workflow code."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from perdure import errors
from perdure.model.described import described
from perdure.replay.recorded_values import unreadable
from perdure.replay.suspensions import SUSPENDING

if TYPE_CHECKING:
    from perdure.model import events as ev
    from perdure.model.payloads import Payloads
    from perdure.replay.runtime import RunRuntime

_OF_THE_LOOP: Final = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit, StopIteration)
"""Exceptions with a meaning for tasks and coroutines: if an activity fails with one, it is only the
cause of the exception that workflow code gets."""


class _Run(Protocol):
    runtime: RunRuntime
    payloads: Payloads


def complete(run: _Run, event: ev.ActivityCompleted) -> None:
    """Resolve the future of a call with its result.

    Raises:
        errors.PayloadError: the result cannot be decoded: the run must be suspended.
    """
    runtime = run.runtime
    waiting = runtime.activities.waiting.get(event.number)
    if waiting is None:
        return
    activity = waiting[0]
    what = f"the result of activity {activity.name!r}"
    try:
        value = run.payloads.decode(event.result, activity.returns, what=what)
    except SUSPENDING:
        raise
    except BaseException as error:
        raise unreadable(error, what, activity.fn) from error
    runtime.resolve_activity(event.number, value)


def fault_of(runtime: RunRuntime, payloads: Payloads, event: ev.ActivityCompleted) -> str:
    """Why a result from outside does not fit the type that the code expects; empty: it fits."""
    waiting = runtime.activities.waiting.get(event.number)
    if waiting is None:
        return ""
    activity = waiting[0]
    what = f"the result of activity {activity.name!r}"
    try:
        payloads.decode(event.result, activity.returns, what=what)
    except errors.ValueUnavailable:
        return ""  # the run waits until it can be read
    except errors.PayloadError as error:
        return str(error)
    except BaseException as error:  # noqa: BLE001 - a type of the author's, or a codec, raised it
        return f"{what} cannot be read: {described(error)}"
    return ""


def fail(runtime: RunRuntime, payloads: Payloads, event: ev.ActivityFailed) -> None:
    """Reject the future of a call with its failure.

    Raises:
        errors.ValueUnavailable: it cannot be decoded now: the run must be suspended.
    """
    waiting = runtime.activities.waiting.get(event.number)
    if waiting is None:
        return
    failure = payloads.open_failure(event.failure)
    cause = payloads.decode_failure(failure)
    if event.failure.is_final and not isinstance(cause, _OF_THE_LOOP):
        runtime.reject_activity(event.number, cause)
        return
    kind = errors.ActivityTimedOut if event.timed_out else errors.ActivityFailed
    attempts = "1 attempt" if event.attempts == 1 else f"{event.attempts} attempts"
    message = f"activity {waiting[0].name!r} failed after {attempts}: {failure.message or failure.type}"
    runtime.reject_activity(event.number, kind(message, cause, event.attempts))
