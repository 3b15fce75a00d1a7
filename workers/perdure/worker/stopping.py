"""Distinguishes a cancellation by the platform from one by an activity, which may cancel itself, or
every task of the loop.

asyncio does not: `task.cancelling()` counts both. A cancellation by the platform ends an attempt
without a report, unless its run waits for its end; a cancellation by an activity is a failed
attempt.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakSet

from perdure.core.machines.activity import STOPPED
from perdure.model import commands as cm
from perdure.model.failure import FailureInfo

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from perdure.model.tasks import Task

T = TypeVar("T")

_asked: Final[WeakSet[asyncio.Task[Any]]] = WeakSet()
_reporting: Final[WeakSet[asyncio.Task[Any]]] = WeakSet()
_patient: Final[WeakSet[asyncio.Task[Any]]] = WeakSet()


def stop(task: asyncio.Task[Any], message: str, *, is_awaited: bool = False) -> None:
    """Cancel a task on behalf of the platform.

    Args:
        task: a task of the running loop.
        message: the reason, for the `CancelledError`.
        is_awaited: the run waits for its end: a function in a thread is waited for, and the end is
            reported.
    """
    _asked.add(task)
    for each in (_reporting, _patient):
        if is_awaited:
            each.add(task)
        else:
            each.discard(task)
    task.cancel(message)


def task_on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Make a task of the platform's own. Not by `loop.create_task`: an activity may have given the
    loop a task factory that raises, or that runs a task before it is returned.
    """
    return asyncio.Task(work, loop=loop)


def is_cancelled_by_activity(task: asyncio.Task[Any]) -> bool:
    """Whether a task that is done was cancelled, and not by `stop`."""
    return task.cancelled() and task not in _asked


def was_asked_to_stop(task: asyncio.Task[Any] | None) -> bool:
    """Whether `stop` was called for the task."""
    return task is None or task in _asked


def is_end_awaited(task: asyncio.Task[Any] | None) -> bool:
    """Whether the last `stop` said that the run waits for the end of the task."""
    return task is not None and task in _reporting


def has_time(task: asyncio.Task[Any] | None) -> bool:
    """Whether a cancellation that has just arrived leaves the task the time to end on its own. Each
    `stop` does so once.
    """
    if task is None or task not in _patient:
        return False
    _patient.discard(task)
    return True


def stopped(task: Task) -> cm.FailActivity:
    """The report of an attempt that was asked to stop, and has."""
    return _ended(task, FailureInfo(STOPPED, "the activity was asked to stop"))


def never_begun(task: Task) -> cm.FailActivity:
    """The report of an attempt that an activity cancelled before its function began."""
    message = "cancelled before it began, by code that cancels other tasks of the worker's asyncio loop"
    return _ended(task, FailureInfo("asyncio.exceptions:CancelledError", message))


def _ended(task: Task, failure: FailureInfo) -> cm.FailActivity:
    return cm.FailActivity(
        task.workflow_id, task.run_id, number=task.number, token=task.token, failure=failure
    )
