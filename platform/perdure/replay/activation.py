"""Makes a run's loop the running loop of the thread for the time of an activation."""

from __future__ import annotations

import gc
from asyncio import tasks as _tasks
from asyncio.events import _get_running_loop, _set_running_loop
from collections.abc import Callable
from typing import Any

running_loop: Callable[[], Any] = _get_running_loop
"""The loop of this thread, or None; `asyncio.get_running_loop` without the exception."""

# from 3.12; 3.14 keeps the current task by thread
_swap_current_task: Any = getattr(_tasks, "_swap_current_task", None)


def enter(loop: Any) -> tuple[Any, Any, bool]:
    """Make it the running loop, and stop garbage collection, so that no `__del__` or weakref
    callback runs at a random place.
    """
    previous = running_loop()
    current = (
        _swap_current_task(previous, None)
        if _swap_current_task is not None and previous is not None
        else None
    )
    collects = gc.isenabled()
    gc.disable()
    _set_running_loop(loop)
    return previous, current, collects


def leave(entered: tuple[Any, Any, bool]) -> None:
    """Undo `enter`."""
    previous, current, collects = entered
    _set_running_loop(previous)
    if collects:
        gc.enable()
    if current is not None:
        _swap_current_task(previous, current)
