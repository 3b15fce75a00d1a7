"""Puts the outcomes of activities in place, as values and exceptions of workflow code."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from perdure import errors

if TYPE_CHECKING:
    from perdure.model import events as ev
    from perdure.model.payloads import Payloads
    from perdure.replay.runtime import RunRuntime

_OF_THE_LOOP: Final = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit, StopIteration)
"""Exceptions that tasks and coroutines use themselves: as an activity's failure they arrive only as
a cause.
"""


def complete(runtime: RunRuntime, payloads: Payloads, event: ev.ActivityCompleted) -> None:
    """Put a result in place; an exception, if it cannot be decoded.

    Raises:
        errors.UsageError: the run must be suspended.
    """
    waiting = runtime.activities.waiting.get(event.number)
    if waiting is None:
        return
    activity = waiting[0]
    try:
        value = payloads.decode(
            event.result, activity.returns, what=f"the result of activity {activity.name!r}"
        )
    except errors.UsageError:
        raise
    except BaseException as error:  # noqa: BLE001 - a type of the author's, or a codec
        runtime.reject_activity(event.number, error)
    else:
        runtime.resolve_activity(event.number, value)


def fail(runtime: RunRuntime, payloads: Payloads, event: ev.ActivityFailed) -> None:
    """Put a failure in place."""
    waiting = runtime.activities.waiting.get(event.number)
    if waiting is None:
        return
    cause = payloads.decode_failure(event.failure)
    if event.failure.is_final and not isinstance(cause, _OF_THE_LOOP):
        runtime.reject_activity(event.number, cause)
        return
    kind = errors.ActivityTimedOut if event.timed_out else errors.ActivityFailed
    attempts = "1 attempt" if event.attempts == 1 else f"{event.attempts} attempts"
    message = (
        f"activity {waiting[0].name!r} failed after {attempts}: {event.failure.message or event.failure.type}"
    )
    runtime.reject_activity(event.number, kind(message, cause, event.attempts))
