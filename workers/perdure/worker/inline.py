"""Attempts of inline steps, and of activities that may not run twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from perdure.core.machines.activity import MISTAKES
from perdure.model import commands as cm
from perdure.model.failure import FailureInfo, bounded, text_of
from perdure.model.inline import NOT_DONE, OUTCOME_UNKNOWN, InlineStep

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.model.inline import InlineTask
    from perdure.model.tasks import Task
    from perdure.worker.attempt import Attempts, Report
from perdure.worker.time_limits import Heartbeat


async def run_inline(
    attempts: Attempts, inline: InlineTask, heartbeat: Heartbeat, begin: Callable[[], None]
) -> Report:
    """Run one attempt of an inline step to its end.

    Raises:
        asyncio.CancelledError: the attempt was asked to stop.
    """
    task, step = inline.task, inline.step
    if not inline.is_at_most_once:
        return await attempts.run(task, heartbeat, begin, step)
    lookup = None
    if step.reconcile is not None:
        lookup = InlineStep(step.name, step.reconcile, step.reconcile, returns=step.returns)
    once = _Once(task, f"step {task.name!r}", step, inline.is_unknown, step.reconcile is not None)
    return await _run_once(attempts, once, lookup, heartbeat, begin)


async def run_once(attempts: Attempts, task: Task, heartbeat: Heartbeat, begin: Callable[[], None]) -> Report:
    """Run one attempt of an activity with `at_most_once` to its end.

    Raises:
        asyncio.CancelledError: the attempt was asked to stop.
    """
    has_lookup = attempts.functions.has_lookup(task)
    once = _Once(task, f"activity {task.name!r}", None, task.is_unknown, has_lookup)
    lookup = None
    if task.is_unknown and has_lookup:
        try:
            lookup = attempts.functions.lookup_of(task)
        except BaseException as error:  # noqa: BLE001 - of the author's types
            failure = attempts.failed(task, error).failure
            return _unknown(once, f"its outcome could not be looked up: {text_of(failure)}", failure)
    return await _run_once(attempts, once, lookup, heartbeat, begin)


class _Once(NamedTuple):
    """An attempt that may not run twice.

    Attributes:
        task: of the attempt.
        what: names it in messages.
        step: its function, if that is not registered.
        is_unknown: a previous attempt may have taken effect.
        has_lookup: whether there is a `reconcile`.
    """

    task: Task
    what: str
    step: InlineStep | None
    is_unknown: bool
    has_lookup: bool


async def _run_once(
    attempts: Attempts,
    once: _Once,
    lookup: InlineStep | None,
    heartbeat: Heartbeat,
    begin: Callable[[], None],
) -> Report:
    """Run the function at most once. If a previous attempt may have taken effect, look the outcome
    up first, and run the function only if it has not.
    """
    task = once.task
    if once.is_unknown:
        if lookup is None:
            return _unknown(once, "it was interrupted, and it is not known whether it took effect", None)
        report = await attempts.run(task, heartbeat, begin, lookup)
        if not isinstance(report, cm.FailActivity):
            return report
        failure = report.failure
        if failure.type != NOT_DONE:
            if failure.is_final and failure.type not in MISTAKES:
                return report
            return _unknown(once, f"its outcome could not be looked up: {text_of(failure)}", failure)
    has_begun = False

    def beginning() -> None:
        nonlocal has_begun
        has_begun = True
        begin()

    report = await attempts.run(task, heartbeat, beginning, once.step)
    if isinstance(report, cm.FailActivity) and has_begun:
        failure = report.failure
        if report.timed_out:
            return _unknown(once, f"it may have taken effect: {failure.message}", failure)
        if failure.type in MISTAKES:
            return _unknown(once, f"it ended with what cannot be recorded: {failure.message}", failure)
    return report


def _unknown(once: _Once, message: str, cause: FailureInfo | None) -> cm.FailActivity:
    """The report of an unknown outcome; final if it cannot be looked up."""
    task = once.task
    failure = bounded(
        FailureInfo(
            OUTCOME_UNKNOWN,
            f"{once.what}: {message}",
            is_final=not once.has_lookup,
            cause=None if cause is None else replace(cause, is_final=False),
        )
    )
    return cm.FailActivity(
        task.workflow_id, task.run_id, number=task.number, token=task.token, failure=failure
    )
