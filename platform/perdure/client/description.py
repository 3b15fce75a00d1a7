"""Describes a run, from its public state and, if necessary, its history."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from perdure.codec.readable import Open, as_it_is
from perdure.codec.records import decode_event_record
from perdure.core.machines.compensation import Compensations
from perdure.core.machines.timer import summaries_of
from perdure.core.run import fold
from perdure.core.state import ActivityState, ActivityStatus
from perdure.model.failure import described
from perdure.model.states import UNPAUSE, WAITS_TOLD
from perdure.model.tasks import trouble_of_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perdure.client.ports import Reader
    from perdure.core.state import RunState
    from perdure.model.states import Status, WorkflowState


ANSWER: Final = "waiting for an answer"
"""The `doing` of an activity that waits for an answer from outside."""
STOPPING: Final = "stopping"
"""The `doing` of an activity that was asked to stop, and whose end the run waits for."""
UNDECIDED: Final = "waiting for an operator"
"""The `doing` of an activity without attempts left: an operator retries it, completes it or lets it
fail."""


@dataclass(frozen=True, slots=True)
class PendingActivity:
    """An activity that the run waits for.

    Attributes:
        number: its number in the run, from 1.
        name: the activity's name.
        queue: its task queue; empty for a step.
        attempt: the current attempt, or the last failed one while `retry_at` is set.
        doing: "waiting for a worker", "running", "stopping", "waiting for an answer" (from
            outside), "waiting for an operator" (no attempt is left), or "backing off".
        retry_at: when the next attempt begins; None unless it is backing off.
        reason: why no worker takes it, what blocks the worker that runs it, or why the last attempt
            failed; else empty.
        expires_at: the deadline of an answer from outside; None unless it waits for one.
        summary: one line for people, as the code gave it (`.options(summary=…)`); else empty.
    """

    number: int
    name: str
    queue: str
    _: KW_ONLY
    attempt: int
    doing: str
    retry_at: datetime | None
    reason: str
    expires_at: datetime | None = None
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Paused:
    """The pause of a run.

    Attributes:
        by: who has paused it; empty: an activity without attempts left, or unknown.
        since: when.
        activity: the number of that activity; 0: a person has paused the run.
    """

    by: str
    since: datetime
    activity: int


@dataclass(frozen=True, slots=True)
class PendingTimer:
    """A timer of the code.

    Attributes:
        number: its number in the run, from 1.
        fires_at: when it fires.
        summary: one line for people, as the code gave it; else empty.
    """

    number: int
    fires_at: datetime
    summary: str = ""


@dataclass(frozen=True, slots=True)
class PendingRun:
    """Another workflow that the run waits for: a child, or one that it has sent a message to.

    Attributes:
        number: the number of the child or message in the run, from 1.
        workflow_id: of the other workflow.
        since: when it was asked for.
        summary: of a child, one line for people, as the code gave it; else empty.
    """

    number: int
    workflow_id: str
    since: datetime
    summary: str = ""


@dataclass(frozen=True, slots=True)
class PendingUpdate:
    """An update whose handler runs.

    Attributes:
        number: its number in the run, from 1.
        name: the update's name.
        since: when it was accepted.
    """

    number: int
    name: str
    since: datetime


@dataclass(frozen=True, slots=True)
class PendingToken:
    """A token without an answer; its text is not included.

    Attributes:
        number: the token's number in the run, from 1.
        since: when it was created, or came from the run before.
        expires_at: its deadline; None: the end of the run.
        name: keeps it when the run continues as new; empty: it has none.
    """

    number: int
    since: datetime
    expires_at: datetime | None
    name: str = ""


@dataclass(frozen=True, slots=True)
class PendingOther:
    """A wait of a kind that has no list of its own: the engine may be newer than this client.

    Attributes:
        kind: the kind of wait, such as `token`.
        name: of what it waits for; empty when that has none.
        number: in the run, from 1, among the waits of this kind.
        since: when it was asked for; None: unknown.
        until: its deadline; None: it has none.
    """

    kind: str
    name: str
    number: int
    since: datetime | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class PendingCompensation:
    """A compensation of a saga, which has failed and is tried again.

    Attributes:
        number: in the run, from 1.
        name: of the function that undoes the step.
        since: when it failed first.
        attempt: the current one, or the next one while it backs off, from 2.
        retry_at: when that attempt begins, or has begun.
        is_backing_off: that is still to come, as far as the run has got.
        reason: why the attempt before failed.
    """

    number: int
    name: str
    since: datetime
    _: KW_ONLY
    attempt: int
    retry_at: datetime
    is_backing_off: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Description:
    """The current description of a run.

    Attributes:
        view: what `@workflow.view` returned last, as JSON values; None when there is none, or when
            a codec has encoded it that is not configured here.
        attributes: as given at the start.
        reason: why it is suspended or paused, was cancelled or terminated, or has failed; which
            steps of a saga were not undone; or why the view is not current.
        activities: the activities that it waits for.
        timers: the timers that it waits for.
        children: the children that it waits for; at most the first twenty waits are listed.
        messages: its unanswered messages to other workflows; likewise.
        updates: updates whose handlers run; likewise.
        tokens: tokens without an answer; likewise.
        parent: the workflow id of its parent; empty when it has none.
        compensations: compensations of sagas that have failed and are tried again.
        others: its waits of all other kinds; likewise.
        paused: since when and by whom it is paused; why is its `reason`. None: it is not.
        begins_at: when its code begins, if its start is delayed; else None.
        memo: of its start, as JSON values; None when a codec has encoded it that is not configured
            here.
        details: what its code says about it, Markdown; empty: nothing.
    """

    workflow_id: str
    run_id: str
    type: str
    _: KW_ONLY
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
    children: tuple[PendingRun, ...] = ()
    messages: tuple[PendingRun, ...] = ()
    updates: tuple[PendingUpdate, ...] = ()
    tokens: tuple[PendingToken, ...] = ()
    parent: str = ""
    compensations: tuple[PendingCompensation, ...] = ()
    others: tuple[PendingOther, ...] = ()
    paused: Paused | None = None
    begins_at: datetime | None = None
    memo: dict[str, Any] | None = None
    details: str = ""


LISTED: Final = frozenset(
    {
        "start",
        "activity",
        "answer",
        "timer",
        "child",
        "message",
        "update",
        "token",
        "compensation",
        "decision",
        UNPAUSE,
    }
)
"""The kinds of waits that `Description` says in another way than by `others`."""


def moment(at: int) -> datetime:
    """Microseconds since 1970 as a datetime in UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)


def needs_history(state: WorkflowState) -> bool:
    """Whether describing the run's waits needs its history: the public state has only the attempt
    of an activity, and only the first of many waits.
    """
    return len(state.waits) >= WAITS_TOLD or any(
        each.kind in ("activity", "answer", "compensation", "decision") for each in state.waits
    )


def run_of(
    state: WorkflowState, reader: Reader, turn: Callable[[], AbstractContextManager[None]] = nullcontext
) -> RunState | None:
    """Fold the history of a run, read page by page; None when `describe` does not need it.

    Args:
        state: the public state.
        reader: reads the history.
        turn: entered while a page is decoded and folded.

    Raises:
        InfrastructureError: the history cannot be read.
    """
    run: RunState | None = None
    next_event_id = 1 if needs_history(state) else 0
    while next_event_id:
        page = reader.history(state.workflow_id, state.run_id, next_event_id)
        with turn():
            run = fold(map(decode_event_record, page.records), run) if page.records else run
        next_event_id = page.next_event_id
    return run


def describe(
    state: WorkflowState,
    run: RunState | None,
    view: Any,
    attributes: dict[str, Any],
    opened: Open = as_it_is,
    *,
    memo: dict[str, Any] | None = None,
) -> Description:
    """Describe a run.

    Args:
        state: the public state.
        run: the result of `run_of`.
        view: the decoded view.
        attributes: the decoded attributes.
        opened: decodes what a codec has encoded of a failure.
        memo: the decoded memo.
    """
    failure = opened(state.failure) if state.failure else None
    reason = "; ".join(filter(None, (described(failure) if failure else "", state.reason)))
    if run is None:
        timers = {each.number: each.due_at for each in state.waits if each.kind == "timer"}
        summaries = {each.number: each.summary for each in state.waits if each.kind == "timer"}
        activities: tuple[PendingActivity, ...] = ()
    else:
        timers, summaries, abandoned = run.timers, summaries_of(run), run.abandoned or ()
        open_ = (each for each in run.activities.values() if each.number not in abandoned)
        activities = tuple(_pending(each, run, opened) for each in open_)
    return Description(
        state.workflow_id,
        state.run_id,
        state.type,
        status=state.status,
        started_at=moment(state.started_at),
        updated_at=moment(state.updated_at),
        closed_at=moment(state.closed_at) if state.closed_at else None,
        history_length=state.history_length,
        view=view,
        attributes=attributes,
        reason=reason,
        activities=activities,
        timers=tuple(
            PendingTimer(number, moment(at), summaries.get(number, ""))
            for number, at in sorted(timers.items(), key=lambda each: each[1])
        ),
        children=_others(state, "child"),
        messages=_others(state, "message"),
        updates=tuple(
            PendingUpdate(each.number, each.name, moment(each.scheduled_at))
            for each in state.waits
            if each.kind == "update"
        ),
        tokens=tuple(
            PendingToken(
                each.number,
                moment(each.scheduled_at),
                moment(each.due_at) if each.due_at else None,
                each.name,
            )
            for each in state.waits
            if each.kind == "token"
        ),
        parent=state.parent,
        compensations=() if run is None else tuple(_compensations(run)),
        others=tuple(
            PendingOther(
                each.kind,
                each.name,
                each.number,
                moment(each.scheduled_at) if each.scheduled_at else None,
                moment(each.due_at) if each.due_at else None,
            )
            for each in state.waits
            if each.kind not in LISTED
        ),
        paused=next(
            (
                Paused(each.name, moment(each.scheduled_at), each.number)
                for each in state.waits
                if each.kind == UNPAUSE
            ),
            None,
        ),
        begins_at=moment(at) if (at := begins_at(state)) else None,
        memo=memo,
        details=state.details,
    )


def begins_at(state: WorkflowState) -> int:
    """When the code of a run begins whose start is delayed, microseconds; 0: it has begun, or the
    run is closed.
    """
    return next((each.due_at for each in state.waits if each.kind == "start"), 0)


def _compensations(run: RunState) -> Iterator[PendingCompensation]:
    for number, each in run.part(Compensations).items():
        yield PendingCompensation(
            number,
            each.name,
            moment(each.failed_at),
            attempt=each.attempt,
            retry_at=moment(each.retry_at),
            is_backing_off=each.retry_at > run.last_at,
            reason=described(each.failure),
        )


def _others(state: WorkflowState, kind: str) -> tuple[PendingRun, ...]:
    return tuple(
        PendingRun(each.number, each.name, moment(each.scheduled_at), each.summary)
        for each in state.waits
        if each.kind == kind
    )


def _pending(activity: ActivityState, run: RunState, opened: Open) -> PendingActivity:
    expires_at = None
    is_backing_off = activity.status is ActivityStatus.BACKING_OFF
    if is_backing_off:
        doing = "backing off"
    elif activity.status is ActivityStatus.DEFERRED:
        doing = ANSWER
        if run.later is not None:
            expires_at = moment(run.later[activity.number].expires_at)
    elif activity.status is ActivityStatus.STOPPING:
        doing = STOPPING
    elif activity.status is ActivityStatus.EXHAUSTED:
        doing = UNDECIDED
    elif activity.status is ActivityStatus.STARTED or (activity.options.is_step and not activity.declined):
        doing = "running"
    else:
        doing = "waiting for a worker"
    failure = opened(activity.failure) if activity.failure else None
    reason = (
        activity.declined or trouble_of_worker(activity.worker) or (described(failure) if failure else "")
    )
    return PendingActivity(
        activity.number,
        activity.name,
        activity.options.queue,
        attempt=activity.attempt,
        doing=doing,
        retry_at=moment(activity.retry_at) if is_backing_off else None,
        reason=reason,
        expires_at=expires_at,
        summary=activity.options.summary,
    )
