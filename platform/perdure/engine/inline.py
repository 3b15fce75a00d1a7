"""Inline steps that are dispatched and not started yet.

The function of an inline step is an object of its run's live code, so the code must have reached
the call before the step can start. If the run is in memory, it has; if not, the run is replayed; if
the run is suspended, the step waits until it is resumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.core.state import ActivityStatus, Phase
from perdure.model.inline import OUTCOME_UNKNOWN, InlineStep, InlineTask
from perdure.replay.suspensions import SUSPENDING_ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from perdure.core.state import ActivityState
    from perdure.engine.active import ActiveRun, ActiveRuns
    from perdure.engine.ports import Batch, Steps
    from perdure.model.tasks import Task


class InlineSteps:
    """The inline steps of all runs of the owned partitions.

    Args:
        runs: the cache.
        steps: runs them.
        touched: the runs that the open batch concerns, by run id.
        bring_live: replays the code of a run, or suspends it and returns why.
    """

    __slots__ = ("_bring_live", "_guarded", "_runs", "_steps", "_touched", "_waiting")

    def __init__(
        self,
        runs: ActiveRuns,
        steps: Steps,
        *,
        touched: Mapping[str, ActiveRun],
        bring_live: Callable[[ActiveRun], BaseException | None],
    ) -> None:
        self._runs = runs
        self._steps = steps
        self._touched = touched
        self._bring_live = bring_live
        self._waiting: dict[str, dict[int, tuple[Task, bool]]] = {}
        self._guarded: list[InlineTask] = []

    def ready(self, tasks: Sequence[Task]) -> list[InlineTask]:
        """The inline steps of this batch that can start now. Steps that have ended meanwhile are
        left out.

        A step that may not run twice starts only after its dispatch is durable, so that after a
        crash the next owner knows that the step may have been started.
        """
        ready: list[InlineTask] = []
        for task in tasks:
            active = self._touched[task.run_id]
            activity = _open_activity(active, task)
            if activity is None:
                continue
            if (found := self._with_function(active, activity, task, is_regained=False)) is not None:
                (self._guarded if found.is_at_most_once else ready).append(found)
        return ready

    def regain(self, task: Task, resume: Callable[[str, str], None]) -> bool:
        """Take over a step of the previous owner if it is inline, and return whether it is. It
        starts when its run is resumed.

        Args:
            task: the step's task.
            resume: replays the code of a run, given by workflow id and run id.
        """
        active = self._runs.find(task.workflow_id)
        if active is None or (activity := _open_activity(active, task)) is None or not activity.options.use:
            return False
        self._wait(task, is_regained=True)
        resume(task.workflow_id, task.run_id)
        return True

    def resume(self, active: ActiveRun, batch: Batch) -> None:
        """The code of a run was replayed, or cannot be: start the steps that waited for it.

        Args:
            active: the run.
            batch: the open one.
        """
        waiting = self._waiting.pop(active.state.run_id, None)
        if waiting is None:
            return
        ready: list[InlineTask] = []
        for task, is_regained in waiting.values():
            activity = _open_activity(active, task)
            if activity is None:
                continue
            found = self._with_function(active, activity, task, is_regained=is_regained)
            if found is None:
                continue
            is_durable = (task.run_id, task.number) not in batch.tasks
            (ready if is_durable or not found.is_at_most_once else self._guarded).append(found)
        if ready:
            self._steps.start_inline(ready)

    def settle(self, batch: Batch) -> None:
        """The batch is committed: start the steps whose dispatch had to be durable first."""
        if not self._guarded:
            return
        guarded, self._guarded = self._guarded, []
        ready = [
            each
            for each in guarded
            if (task := batch.tasks.get((each.task.run_id, each.task.number))) is not None
            and task.token == each.task.token
        ]
        if ready:
            self._steps.start_inline(ready)

    def abort(self) -> None:
        """The batch was aborted: forget its steps; the next batch dispatches them again."""
        self._guarded.clear()

    def forget(self, run_id: str) -> None:
        """Forget the steps of a run that has closed."""
        self._waiting.pop(run_id, None)

    def drop_where(self, is_gone: Callable[[str], bool]) -> None:
        """Forget the steps of these workflow ids."""
        for run_id, waiting in list(self._waiting.items()):
            if any(is_gone(task.workflow_id) for task, _ in waiting.values()):
                del self._waiting[run_id]

    def _with_function(
        self, active: ActiveRun, activity: ActivityState, task: Task, *, is_regained: bool
    ) -> InlineTask | None:
        """The step with its function. None: the step waits for the code of its run, or the code has
        given it up and cancels it.
        """
        if active.state.phase is Phase.RUNNING and self._bring_live(active) is None:
            step = _function_of(active, task)
        elif active.state.phase is Phase.SUSPENDED and self._is_live_for_a_look(active):
            step = _function_of(active, task)
            active.drop_code()
        else:
            self._wait(task, is_regained=is_regained)
            return None
        if step is None:
            return None
        is_at_most_once = activity.options.at_most_once
        is_unknown = is_at_most_once and (
            is_regained or (activity.failure is not None and activity.failure.type == OUTCOME_UNKNOWN)
        )
        return InlineTask(task, step, is_at_most_once, is_unknown)

    def _is_live_for_a_look(self, active: ActiveRun) -> bool:
        """Try to replay the code of a suspended run, without resuming the run. It may be suspended
        because of an attempt of this very step: the step must run again, as registered steps do,
        before the run can resume.
        """
        try:
            self._runs.bring_live(active)
        except SUSPENDING_ERRORS:
            return False
        return True

    def _wait(self, task: Task, *, is_regained: bool) -> None:
        self._waiting.setdefault(task.run_id, {})[task.number] = task, is_regained


def _function_of(active: ActiveRun, task: Task) -> InlineStep | None:
    """The call that the code waits for; None: the code has given it up, and the step is being
    cancelled.
    """
    pending = None if active.live is None else active.live.runtime.activities.waiting.get(task.number)
    return pending[0] if pending is not None and isinstance(pending[0], InlineStep) else None


def _open_activity(active: ActiveRun, task: Task) -> ActivityState | None:
    """The activity, if the task is its current attempt."""
    if active.state.run_id != task.run_id:
        return None
    activity = active.state.activities.get(task.number)
    if activity is None or activity.token != task.token or activity.status is ActivityStatus.BACKING_OFF:
        return None
    return activity
