"""What a run is doing: folded from its history."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from perdure.core.activity import ActivityState, ActivityStatus
from perdure.core.run import fold
from perdure.model.failure import described
from perdure.model.tasks import trouble_of_worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.model.events import EventRecord
    from perdure.model.states import Status, WorkflowState


@dataclass(frozen=True, slots=True)
class PendingActivity:
    """An activity that the run waits for.

    Attributes:
        number: in the run, from 1.
        name: of the activity.
        queue: empty for a step.
        attempt: the current one, or the one that failed last while `retry_at` is set.
        doing: "waiting for a worker", "running" or "backing off".
        retry_at: when the next attempt begins; None unless it backs off.
        reason: why no worker takes it, what holds up the worker that runs it, or why the last attempt failed; empty when there is nothing to say.
    """

    number: int
    name: str
    queue: str
    attempt: int
    doing: str
    retry_at: datetime | None
    reason: str


@dataclass(frozen=True, slots=True)
class PendingTimer:
    """A timer of the code."""

    number: int
    fires_at: datetime


@dataclass(frozen=True, slots=True)
class Description:
    """A run as it is now.

    Attributes:
        view: what `@workflow.view` returned last, as JSON values; None when there is none.
        attributes: as given at the start.
        reason: why it is suspended, was cancelled or terminated, has failed; or why the view could not be kept.
        activities: what it waits for.
        timers: the same.
    """

    workflow_id: str
    run_id: str
    type: str
    status: Status
    started_at: datetime
    updated_at: datetime
    closed_at: datetime | None
    history_length: int
    view: Any
    attributes: dict[str, Any]
    reason: str
    activities: tuple[PendingActivity, ...]
    timers: tuple[PendingTimer, ...]


def moment(at: int) -> datetime:
    """Microseconds since 1970 as a datetime in UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)


def describe(state: WorkflowState, records: Sequence[EventRecord], view: Any, attributes: dict[str, Any]) -> Description:
    """Fold the history of the run that `state` is of.

    Args:
        state: the public state.
        records: the whole history.
        view: decoded.
        attributes: decoded.
    """
    run = fold(records)
    failure = run.failure
    reason = state.reason or run.reason or (described(failure) if failure else "")
    return Description(
        run.workflow_id,
        run.run_id,
        run.type,
        run.status,
        moment(run.started_at),
        moment(run.last_at),
        moment(run.closed_at) if run.closed_at else None,
        run.last_event_id,
        view,
        attributes,
        reason,
        tuple(_pending(activity) for activity in run.activities.values()),
        tuple(PendingTimer(number, moment(at)) for number, at in sorted(run.timers.items(), key=lambda each: each[1])),
    )


def _pending(activity: ActivityState) -> PendingActivity:
    is_backing_off = activity.status is ActivityStatus.BACKING_OFF
    if is_backing_off:
        doing = "backing off"
    elif activity.status is ActivityStatus.STARTED or (activity.options.is_step and not activity.declined):
        doing = "running"
    else:
        doing = "waiting for a worker"
    failure = activity.failure
    reason = activity.declined or trouble_of_worker(activity.worker) or (described(failure) if failure else "")
    return PendingActivity(
        activity.number,
        activity.name,
        activity.options.queue,
        activity.attempt,
        doing,
        moment(activity.retry_at) if is_backing_off else None,
        reason,
    )
