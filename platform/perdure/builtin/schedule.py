"""A schedule: starts a run of a workflow type at each of its times.

Each run of a schedule handles one time, or a few, and then continues as new: all that its code does
depends on recorded arguments, so that another version of the time zone database does not change
what a replay does, and histories stay short.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import Any, Final

from perdure import workflow
from perdure.authoring.definition import ours
from perdure.builtin.schedule_times import (
    Spec,
    check,
    count_between,
    id_of,
    jittered,
    moment_of,
    next_time,
    times_after,
    us_of,
)
from perdure.errors import (
    ClientError,
    Failure,
    UsageError,
    WorkflowAlreadyStarted,
    WorkflowFailed,
    WorkflowNotFound,
)
from perdure.model.runtime import ChildOptions, WorkflowRuntime, current, misuse

PREFIX: Final = "schedule/"
"""Prefix of the workflow ids of schedules."""
RECENT: Final = 10
STARTS: Final = 20
"""The most runs that one run of a schedule starts before it continues as new."""
QUEUED: Final = 1_000
"""The most times that wait for the run before them."""
COUNTED: Final = 10_000
"""The times that were missed are counted up to this number."""
BACKFILL: Final = 10_000
"""The most times of one backfill."""
LONG: Final = 2_000
"""Events after which a run of a schedule continues as new while it waits."""


@dataclass
class RecentRun:
    """A run that a schedule has started.

    Attributes:
        id: its workflow id.
        due: the time that it is for.
        outcome: `started`; once known, `completed` or why there is no result; or why it was
            refused. With overlap="all" the schedule does not follow its runs.
    """

    id: str
    due: datetime
    outcome: str = "started"


@dataclass
class State:
    """The state that one run of a schedule gives to the next one; see `ScheduleView`.

    Attributes:
        anchor_us: intervals count from here; 0: the schedule has just been created.
        next_us: the next time, without jitter, microseconds; 0: there is none.
        queue: times that wait to be started.
        triggered: runs to be started immediately.
        backfills: first and last moment of what remains of each backfill.
        running: the id of the run that has not ended; empty: none, or overlap="all".
        is_stopping: it was asked to stop.
    """

    anchor_us: int = 0
    next_us: int = 0
    queue: list[int] = field(default_factory=list[int])
    triggered: list[int] = field(default_factory=list[int])
    backfills: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    running: str = ""
    is_stopping: bool = False
    is_paused: bool = False
    note: str = ""
    started: int = 0
    skipped: int = 0
    missed: int = 0
    recent: list[RecentRun] = field(default_factory=list[RecentRun])
    error: str = ""


@dataclass
class ScheduleView:
    """The public state of a schedule.

    Attributes:
        next: its next time, without jitter; None: it is paused, or has none.
        running: the run that has not ended; empty: none, or overlap="all".
        waiting: times that wait for it.
        backfilling: backfills that are not finished.
        started: the number of runs that it has started.
        skipped: the times that were left out because the run before had not ended.
        missed: the times that were left out because no engine ran until catch_up had passed.
        recent: the last ten runs, oldest first.
        error: why the last start was refused; empty: it was not.
    """

    spec: Spec
    is_paused: bool = False
    note: str = ""
    next: datetime | None = None
    running: str = ""
    waiting: int = 0
    backfilling: int = 0
    started: int = 0
    skipped: int = 0
    missed: int = 0
    recent: list[RecentRun] = field(default_factory=list[RecentRun])
    error: str = ""


class _OfType:
    """A workflow type that is known by its name alone (`model.runtime.WorkflowSpec`)."""

    returns: Any = Any

    def __init__(self, name: str) -> None:
        self.name = name
        self.run_fn = _anything


def _anything(*args: Any, **kwargs: Any) -> Any:
    """The signature of a run that is known by its name alone."""


class _Runs:
    """Starts the runs of a schedule, and follows the last one."""

    def __init__(self, spec: Spec, state: State) -> None:
        self._spec = spec
        self._state = state
        self._is_changed = self._is_deleted = False
        self._starts = 0
        self._stopping: asyncio.Task[None] | None = None

    def _can_start(self) -> bool:
        state = self._state
        if self._state.triggered:
            return True
        is_free = self._spec.overlap == "all" or not state.running
        return is_free and bool(state.queue or state.backfills)

    async def _start_next(self) -> bool:
        """Start the next run that waits; False: it was the end of a backfill."""
        state = self._state
        if state.triggered:
            await self._start(state.triggered.pop(0), is_followed=not state.running)
        elif state.queue:
            await self._start(state.queue.pop(0), is_followed=True)
        else:
            first, last = state.backfills.pop(0)
            at = next_time(self._spec, first - 1, state.anchor_us)
            if not at or at > last:
                return False
            state.backfills.insert(0, (at + 1, last))
            await self._start(at, is_followed=True)
        self._starts += 1
        return True

    async def _start(self, at: int, *, is_followed: bool) -> None:
        """Start the run of a time. If it was started already, it is that one."""
        spec, state = self._spec, self._state
        workflow_id = id_of(self._name, at)
        options = ChildOptions("abandon", "refuse", spec.timeout_us)
        outcome = "started"
        try:
            started = _runtime().start_child(
                _OfType(spec.type), workflow_id, tuple(spec.args), spec.kwargs, options
            )
            await started.started
            state.error = ""
        except WorkflowAlreadyStarted:
            outcome = "was started before"
        except ClientError as error:
            outcome = f"refused: {error}"
            state.error = f"{workflow_id} could not be started: {error}"
            is_followed = False
        else:
            state.started += 1
        state.recent = [*state.recent, RecentRun(workflow_id, moment_of(at), outcome)][-RECENT:]
        if is_followed and spec.overlap != "all":
            state.running, state.is_stopping = workflow_id, False

    async def _watched(self, workflow_id: str) -> None:
        """Wait until a run has ended."""
        try:
            await _runtime().send_message("result", workflow_id, "", b"", None)
            outcome = "completed"
        except WorkflowNotFound:
            outcome = "no longer known"
        except WorkflowFailed as failed:
            outcome = str(failed)[:500]
        state = self._state
        state.recent = [
            replace(each, outcome=outcome) if each.id == workflow_id else each for each in state.recent
        ]
        if state.running == workflow_id:
            state.running, state.is_stopping = "", False
        self._is_changed = True

    async def _stop(self, workflow_id: str) -> None:
        kind = "cancel" if self._spec.overlap == "cancel" else "terminate"
        reason = f"the next run of schedule {self._name} is due"
        with suppress(ClientError):  # it has just ended
            await _runtime().send_message(kind, workflow_id, reason, b"", None)

    @property
    def _name(self) -> str:
        return workflow.info().workflow_id.removeprefix(PREFIX)


class Schedule(_Runs):
    """The workflow of a schedule."""

    @workflow.run
    async def keep(self, spec: Spec, state: State) -> str:
        """Start runs until the schedule is deleted."""
        self._begin()
        watch: asyncio.Task[None] | None = None
        while not self._is_deleted:
            if watch is None and self._state.running:
                watch = asyncio.create_task(self._watched(self._state.running))
            if self._can_start():
                if not await self._start_next():
                    continue
                if self._starts < STARTS and self._can_start():
                    continue
                return self._continue()
            self._is_changed = False
            if workflow.info().history_length > LONG:
                return self._continue()
            if await self._until_next():
                self._take_due()
            if watch is not None and watch.done():
                watch = None
                return self._continue()
        return "deleted"

    def _begin(self) -> None:
        """Check a new schedule, and find its first time."""
        state, now = self._state, _now()
        if state.anchor_us:
            return
        try:
            check(self._spec, now)
        except UsageError as error:
            raise Failure(str(error)) from None
        state.anchor_us = now
        state.next_us = next_time(self._spec, now, now)

    async def _until_next(self) -> bool:
        """Wait for the next time, or for a change; return whether it is the time."""
        state = self._state
        is_waiting = bool(state.next_us) and not state.is_paused
        due_us = jittered(self._spec, self._name, state.next_us) if is_waiting else 0
        left_us = due_us - _now()
        if due_us and left_us <= 0:
            return True
        if not due_us:
            await workflow.wait_until(lambda: self._is_changed)
            return False
        return not await workflow.wait_until(lambda: self._is_changed, timeout=f"{left_us}us")

    def _take_due(self) -> None:
        """Take the times that have come."""
        spec, state, now = self._spec, self._state, _now()
        first = max(state.next_us, now - spec.catch_up_us - spec.jitter_us)
        if state.next_us < first:
            state.missed += count_between(spec, state.next_us, first - 1, state.anchor_us, COUNTED)
        state.next_us = 0
        for at in islice(times_after(spec, first - 1, state.anchor_us), QUEUED):
            if jittered(spec, self._name, at) > now:
                state.next_us = at
                return
            self._take(at)
            state.next_us = at + 1
        if state.next_us:
            state.skipped += count_between(spec, state.next_us, now, state.anchor_us, COUNTED)
            state.next_us = next_time(spec, max(now, state.next_us - 1), state.anchor_us)

    def _take(self, at: int) -> None:
        state = self._state
        is_busy = bool(state.running or state.queue)
        match self._spec.overlap:
            case "skip" if is_busy:
                state.skipped += 1
                return
            case "cancel" | "terminate":
                state.skipped += len(state.queue)
                state.queue.clear()
                if state.running and not state.is_stopping:
                    state.is_stopping = True
                    self._stopping = asyncio.create_task(self._stop(state.running))
            case _:
                pass
        if len(state.queue) < QUEUED:
            state.queue.append(at)
        else:
            state.skipped += 1

    def _continue(self) -> str:
        """Continue as new, with what has changed since, unless the schedule was deleted."""
        if not self._is_deleted:
            workflow.continue_as_new(self.keep, self._spec, self._state)
        return "deleted"

    # ---- changes

    @workflow.signal
    def pause(self, note: str = "") -> None:
        """Start no runs at the times that come. Those that wait are started."""
        self._state.is_paused, self._state.note, self._is_changed = True, note[:1_000], True

    @workflow.signal
    def unpause(self, note: str = "") -> None:
        """Start runs again, from the next time on."""
        state = self._state
        if state.is_paused:
            state.next_us = next_time(self._spec, _now(), state.anchor_us)
        state.is_paused, state.note, self._is_changed = False, note[:1_000], True

    @workflow.update
    def trigger(self) -> str:
        """Start a run now, also while another one runs or the schedule is paused; its id."""
        at = _now()
        while at in self._state.triggered or any(us_of(each.due) == at for each in self._state.recent):
            at += 1
        self._state.triggered.append(at)
        self._is_changed = True
        return id_of(self._name, at)

    @workflow.update
    def backfill(self, first: datetime, last: datetime) -> int:
        """Start the runs of past times; their number."""
        state = self._state
        first_us, last_us = us_of(first), us_of(last)
        count = count_between(self._spec, first_us, last_us, state.anchor_us, BACKFILL)
        state.backfills.append((first_us, last_us))
        self._is_changed = True
        return count

    @backfill.validator
    def _may_backfill(self, first: datetime, last: datetime) -> None:
        count = count_between(self._spec, us_of(first), us_of(last), self._state.anchor_us, BACKFILL)
        if count > BACKFILL:
            raise ValueError(f"a backfill has at most {BACKFILL} times; these are more: divide it")
        if not count:
            raise ValueError("the schedule has no time from the first moment to the last")
        if len(self._state.backfills) >= STARTS:
            raise ValueError(f"{STARTS} backfills are not finished: wait for them")

    @workflow.update
    def change(self, spec: Spec) -> None:
        """Replace the schedule, from the next time on."""
        self._spec = spec
        self._state.next_us = next_time(spec, _now(), self._state.anchor_us)
        if spec.overlap == "all":  # its runs are not followed
            self._state.running = ""
        self._is_changed = True

    @change.validator
    def _may_change(self, spec: Spec) -> None:
        try:
            check(spec, _now())
        except UsageError as error:
            raise ValueError(str(error)) from None

    @workflow.signal
    def delete(self) -> None:
        """End the schedule; runs that it has started continue."""
        self._is_deleted = self._is_changed = True

    @workflow.view
    def show(self) -> ScheduleView:
        """The public state."""
        state = self._state
        return ScheduleView(
            self._spec,
            is_paused=state.is_paused,
            note=state.note,
            next=moment_of(state.next_us) if state.next_us and not state.is_paused else None,
            running=state.running,
            waiting=len(state.queue),
            backfilling=len(state.backfills),
            started=state.started,
            skipped=state.skipped,
            missed=state.missed,
            recent=state.recent,
            error=state.error,
        )


def _now() -> int:
    return _runtime().now_us()


def _runtime() -> WorkflowRuntime:
    runtime = current()
    if runtime is None:
        raise misuse("a schedule is a workflow of perdure; start it with client.schedule.")
    return runtime


SCHEDULE: Final = ours(Schedule, "perdure.schedule")
"""The workflow type of schedules."""
