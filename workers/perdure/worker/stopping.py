"""Distinguishes a cancellation by the platform from one that the activity caused itself.

asyncio does not: `task.cancelling()` counts both. A cancellation by the platform ends an attempt
without a report, since no run waits for it; a cancellation by the activity is a failed attempt.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final
from weakref import WeakSet

_asked: Final[WeakSet[asyncio.Task[Any]]] = WeakSet()


def stop(task: asyncio.Task[Any], message: str) -> None:
    """Cancel a task on behalf of the platform.

    Args:
        task: a task of the running loop.
        message: the reason, for the `CancelledError`.
    """
    _asked.add(task)
    task.cancel(message)


def was_asked_to_stop(task: asyncio.Task[Any] | None) -> bool:
    """Whether `stop` was called for the task."""
    return task is None or task in _asked
