"""Calls of a codec or a store, from where workflow code runs, but not as workflow code: they may
read files, clocks and sockets, and take their time. What they give is recorded, so that a replay
does not depend on them.
"""

from __future__ import annotations

import threading
from asyncio.events import _get_running_loop, _set_running_loop
from collections.abc import Callable
from typing import Final, TypeVar

from perdure.model.runtime import WorkflowLoop

T = TypeVar("T")

PAUSES: Final[dict[int, Callable[[], Callable[[], None]]]] = {}
"""By thread: stops the watchdog of workflow code there, and returns what continues it."""


def outside(call: Callable[[], T]) -> T:
    """Call something that is no workflow code, wherever this is."""
    pause = PAUSES.get(threading.get_ident())
    proceed = pause() if pause is not None else None
    loop = _get_running_loop()
    is_of_a_run = isinstance(loop, WorkflowLoop)
    if is_of_a_run:
        _set_running_loop(None)  # the guard knows workflow code by its loop
    try:
        return call()
    finally:
        if is_of_a_run:
            _set_running_loop(loop)
        if proceed is not None:
            proceed()
