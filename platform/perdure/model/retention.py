"""Retention: how long a run is kept after it has closed, by its outcome."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from perdure.errors import UsageError
from perdure.model.duration import LONGEST_US, Duration, microseconds
from perdure.model.states import Status

OUTCOMES: Final = tuple(status for status in Status if status.is_closed)
FOR_EVER: Final = ("forever", "for ever", "none")
"""How text says that nothing is removed."""


class _Unsaid(Enum):
    UNSAID = "the default of the namespace"

    def __repr__(self) -> str:
        return self.value


UNSAID: Final = _Unsaid.UNSAID
"""The default of the namespace counts."""


class ClosedRun(Struct, frozen=True, order=True, gc=False, array_like=True):
    """A run that has closed, as a store finds it when it is due. Runs of one type and status are
    ordered by the time of their end.

    Attributes:
        type: of the workflow; empty in a kind: the store has not looked it up yet.
        status: in which it has closed.
        closed_at: microseconds.
        run_id: the run.
        workflow_id: its workflow id.
    """

    type: str
    status: str
    closed_at: int
    run_id: str
    workflow_id: str


def last_closed(run: ClosedRun) -> tuple[int, str]:
    """Key by which the last of some closed runs of a workflow id is found."""
    return run.closed_at, run.run_id


class RemovedRun(Struct, frozen=True, gc=False):
    """A run whose records a batch removes.

    Attributes:
        run: the run.
        event_ids: the first event id of each of its records.
    """

    run: ClosedRun
    event_ids: tuple[int, ...]


class Retention:
    """How long runs are kept after they have closed, by their outcome.

    A run of an outcome that is not named is kept as long as the default of the namespace says.

    Args:
        others: of all outcomes that are not named; None: for ever.
        completed: of runs that have returned a value, or have continued as new.
        failed: of runs that raised.
        cancelled: of runs that were cancelled.
        terminated: of runs that were terminated.
        timed_out: of runs whose time was up.

    Raises:
        UsageError: a value is not a duration, or is nothing.
    """

    __slots__ = ("by_outcome",)

    def __init__(
        self,
        others: Duration | _Unsaid | None = UNSAID,
        /,
        *,
        completed: Duration | _Unsaid | None = UNSAID,
        failed: Duration | _Unsaid | None = UNSAID,
        cancelled: Duration | _Unsaid | None = UNSAID,
        terminated: Duration | _Unsaid | None = UNSAID,
        timed_out: Duration | _Unsaid | None = UNSAID,
    ) -> None:
        named = {
            Status.COMPLETED: completed,
            Status.FAILED: failed,
            Status.CANCELLED: cancelled,
            Status.TERMINATED: terminated,
            Status.TIMED_OUT: timed_out,
        }
        found: dict[str, int | None] = {}
        for status, given in named.items():
            duration = others if isinstance(given, _Unsaid) else given
            if not isinstance(duration, _Unsaid):
                found[str(status)] = _kept_us(duration)
        self.by_outcome: Mapping[str, int | None] = MappingProxyType(found)
        """Microseconds, or None: for ever; of the outcomes that are said."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Retention) and self.by_outcome == other.by_outcome

    def __hash__(self) -> int:
        return hash(tuple(self.by_outcome.items()))

    def __repr__(self) -> str:
        return f"Retention({dict(self.by_outcome)})"


def retention_of(given: Retention | Duration | None) -> Retention:
    """The retention that an author gives: one duration for all outcomes, None for ever.

    Raises:
        UsageError: it is none.
    """
    return given if isinstance(given, Retention) else Retention(given)


def retention_of_text(text: str) -> Retention:
    """The retention that an operator writes.

    Args:
        text: "30 days", or by outcome: "7 days, failed=90 days, terminated=forever".

    Raises:
        UsageError: it cannot be read; the message says why.
    """
    named: dict[str, Duration | None] = {}
    others: Duration | _Unsaid | None = UNSAID
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, equals, value = (each.strip() for each in part.rpartition("="))
        duration = None if value.lower() in FOR_EVER else value
        if not equals:
            if others is not UNSAID:
                raise UsageError(f"retention {text!r}: two durations without an outcome; write one")
            others = duration
        elif name not in OUTCOMES:
            raise UsageError(
                f"retention {text!r}: there is no outcome {name!r}; the outcomes are {', '.join(OUTCOMES)}"
            )
        else:
            named[name] = duration
    try:
        return Retention(others, **named)
    except UsageError as error:
        raise UsageError(f"retention {text!r}: {error}") from None


def _kept_us(duration: Duration | None) -> int | None:
    if duration is None:
        return None
    found = microseconds(duration)
    if found == 0:
        raise UsageError(f"a retention must be longer than 0, not {duration!r}")
    return found if found < LONGEST_US else None


NOTHING_SAID: Final = Retention()
"""The default of the namespace counts for every outcome."""
KEEP: Final = Retention(None)
"""Keep everything for ever."""
