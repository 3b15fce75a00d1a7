"""Attempts of inline steps, with the care for those that may not run twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from perdure.core.machines.activity import MISTAKES
from perdure.model import commands as cm
from perdure.model.failure import FailureInfo, bounded, text_of
from perdure.model.inline import NOT_DONE, OUTCOME_UNKNOWN, InlineStep

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.model.inline import InlineTask
    from perdure.worker.attempt import Attempts, Heartbeat, Report


async def run_inline(
    attempts: Attempts, inline: InlineTask, heartbeat: Heartbeat, begin: Callable[[], None]
) -> Report:
    """Run one attempt of an inline step to its end.

    Where an attempt before may have had its effect, the outcome is looked up first; the function
    runs again only if the answer is that it did not.

    Raises:
        asyncio.CancelledError: the attempt was asked to stop.
    """
    task, step = inline.task, inline.step
    if inline.is_unknown:
        if step.reconcile is None:
            return _unknown(inline, "it was interrupted, and it is not known whether it took effect", None)
        lookup = InlineStep(step.name, step.reconcile, step.reconcile, returns=step.returns)
        report = await attempts.run(task, heartbeat, begin, lookup)
        if not isinstance(report, cm.FailActivity):
            return report
        failure = report.failure
        if failure.type != NOT_DONE:
            if failure.is_final and failure.type not in MISTAKES:
                return report
            return _unknown(inline, f"its outcome could not be looked up: {text_of(failure)}", failure)
    report = await attempts.run(task, heartbeat, begin, step)
    if inline.is_at_most_once and isinstance(report, cm.FailActivity):
        failure = report.failure
        if report.timed_out:
            return _unknown(inline, f"it may have taken effect: {failure.message}", failure)
        if failure.type in MISTAKES:
            return _unknown(inline, f"it ended with what cannot be recorded: {failure.message}", failure)
    return report


def _unknown(inline: InlineTask, message: str, cause: FailureInfo | None) -> cm.FailActivity:
    """The report of an outcome that is unknown; final where nobody can look it up."""
    task = inline.task
    failure = bounded(
        FailureInfo(
            OUTCOME_UNKNOWN,
            f"step {task.name!r}: {message}",
            is_final=inline.step.reconcile is None,
            cause=None if cause is None else replace(cause, is_final=False),
        )
    )
    return cm.FailActivity(
        task.workflow_id, task.run_id, number=task.number, token=task.token, failure=failure
    )
