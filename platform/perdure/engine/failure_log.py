"""Logs failures of workflow and activity code, and refused requests: a warning for each failed
attempt and each refused change, an error for each failed run.

An outage makes thousands of attempts fail alike. For each activity, workflow type and kind of
refusal, the first few lines are written immediately, then one line per period, with the number of
lines that were left out.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Final

from perdure.model import commands as cm
from perdure.model import events as ev

if TYPE_CHECKING:
    from perdure.core.state import RunState
    from perdure.model.commands import Request
    from perdure.model.failure import FailureInfo
    from perdure.model.replies import Refused

BURST: Final = 5
EVERY_S: Final = 10.0
"""After a burst, seconds between two lines about an activity."""
RUNS_BURST: Final = 100
RUNS_EVERY_S: Final = 1.0
"""The same for failed runs, and for refused changes."""
MESSAGE: Final = 300
"""Characters of an exception's message that are shown."""
TYPES: Final = 1_000
"""Number of names that are counted separately."""

_FRAME: Final = re.compile(r'^  File "(.+)", line (\d+)', re.MULTILINE)


class Sparse:
    """Lets a burst of lines through for each name, then one line per period.

    Args:
        burst: the number of lines in the burst.
        every_s: the period, seconds.
        clock: seconds, monotonic.
    """

    def __init__(self, burst: int, every_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._burst = burst
        self._every_s = every_s
        self._clock = clock
        self._names: dict[str, tuple[float, float, int]] = {}

    def passes(self, name: str) -> int | None:
        """Whether a line of this name may be written now.

        Returns:
            How many lines were left out before it; None: leave this one out, too.
        """
        now = self._clock()
        budget, at, left_out = self._names.pop(name, (float(self._burst), now, 0))
        budget = min(self._burst, budget + (now - at) / self._every_s)
        is_shown = budget >= 1.0
        self._names[name] = (budget - 1.0, now, 0) if is_shown else (budget, now, left_out + 1)
        if len(self._names) > TYPES:
            del self._names[next(iter(self._names))]
        return left_out if is_shown else None


class AttemptLog:
    """Warnings about attempts.

    Args:
        logger: receives the lines.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._sparse = Sparse(BURST, EVERY_S)

    def failed(self, name: str, failure: FailureInfo, attempt: int, next_: str, **where: str | int) -> None:
        """Log a failed attempt.

        Args:
            name: of the activity.
            failure: of the attempt.
            attempt: its number, from 1.
            next_: what happens next, as text.
            where: identifies the run.
        """
        if (left_out := self._sparse.passes(name)) is None:
            return
        more = f" ({left_out} more failed attempts of {name} were not logged)" if left_out else ""
        self._logger.warning(
            "activity %s failed in attempt %d: %s; %s%s",
            name,
            attempt,
            in_words(failure),
            next_,
            more,
            extra=where,
        )


class FailureLog:
    """Failures recorded in an engine's batches; logged once they are durable."""

    def __init__(self) -> None:
        self._logger = logging.getLogger("perdure.engine")
        self._attempts = AttemptLog(self._logger)
        self._runs = Sparse(RUNS_BURST, RUNS_EVERY_S)
        self._refusals = Sparse(RUNS_BURST, RUNS_EVERY_S)

    def write(
        self,
        failures: Iterable[tuple[RunState, ev.AnyEvent, str]],
        refused: Iterable[tuple[Request, Refused]] = (),
    ) -> None:
        """Log the failures and the refused changes of a batch.

        Args:
            failures: the run, the event, and the name of the activity, if it is about one.
            refused: changes, each with the answer that its client gets.
        """
        for request, reply in refused:
            with suppress(Exception):  # as below
                self._refuse(request, reply)
        for run, event, activity in failures:
            with suppress(
                Exception
            ):  # the batch is durable: a line that cannot be written must not look like one that was aborted
                self._write(run, event, activity)

    def _write(self, run: RunState, event: ev.AnyEvent, activity: str) -> None:
        where = {"workflow_id": run.workflow_id, "run_id": run.run_id, "workflow_type": run.type}
        match event:
            case ev.ActivityAttemptFailed():
                next_ = f"next attempt at {_moment(event.retry_at)}"
                self._attempts.failed(activity, event.failure, event.attempt, next_, **where)
            case ev.ActivityFailed():
                self._attempts.failed(activity, event.failure, event.attempts, "no further attempt", **where)
            case ev.WorkflowFailed():
                self._failed(run, in_words(event.failure), where)
            case ev.WorkflowTimedOut():
                self._failed(run, "it timed out", where)
            case _:
                pass

    def _refuse(self, request: Request, reply: Refused) -> None:
        """Log a refused change. A workflow that already exists is not logged: many clients start
        one per record and rely on the refusal.
        """
        kind = type(request).__name__
        if (
            reply.code == "already_started"
            or (left_out := self._refusals.passes(f"{kind} {reply.code}")) is None
        ):
            return
        more = f" ({left_out} more of this kind were not logged)" if left_out else ""
        name = f" {request.name!r}" if isinstance(request, cm.SignalWorkflow) else ""
        self._logger.warning(
            "%s%s of %s for workflow %s was refused (%s): %s%s",
            kind,
            name,
            request.reply_to,
            request.workflow_id,
            reply.code,
            _shown(reply.message),
            more,
            extra={
                "workflow_id": request.workflow_id,
                "run_id": request.run_id,
                "request_id": request.request_id,
            },
        )

    def _failed(self, run: RunState, why: str, where: dict[str, str]) -> None:
        if (left_out := self._runs.passes(run.type)) is None:
            return
        more = f" ({left_out} more failed runs of {run.type} were not logged)" if left_out else ""
        self._logger.error("workflow %s failed: %s: %s%s", run.workflow_id, run.type, why, more, extra=where)


def in_words(failure: FailureInfo) -> str:
    """Type, message and source line, as in `KeyError: 'missing' (app.py:31)`, on one line; then its
    causes.
    """
    kind = failure.type.rpartition(":")[2]
    message = _shown(failure.message)
    text = f"{kind}: {message}" if message else kind
    if lines := _FRAME.findall(failure.traceback):
        file, line = lines[-1]
        text += f" ({file}:{line})"
    return f"{text}, caused by {in_words(failure.cause)}" if failure.cause is not None else text


def _shown(message: str) -> str:
    """The text on one line, cut to the length of a log line."""
    text = " ".join(message.split())
    return f"{text[:MESSAGE]}…" if len(text) > MESSAGE else text


def _moment(at: int) -> str:
    try:
        return datetime.fromtimestamp(at / 1_000_000, UTC).isoformat(" ", "seconds")
    except (ValueError, OverflowError, OSError):  # a report of anybody's may ask for a delay of ages
        return "a time beyond the calendar"
