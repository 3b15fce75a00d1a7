"""Gives an order to the sets that asyncio iterates, which are hashed by address.

Most of asyncio is deterministic already: gather, locks, queues, timeouts. But `wait`, the abort of
a `TaskGroup`, `as_completed` and `all_tasks` iterate sets. Tasks and futures get a stable hash
(`futures.py`), which settles the first two. This module settles the other two: up to 3.13
`as_completed` makes a `set` of its arguments before they are tasks, and `all_tasks` iterates the
tasks of the whole process, whose order depends on other runs. Both look up the names `set` and
`list` in the module `asyncio.tasks`; these are replaced by functions that differ only while
workflow code runs.
"""

from __future__ import annotations

import asyncio.tasks
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from perdure.model.runtime import WorkflowLoop
from perdure.replay.activation import running_loop

if TYPE_CHECKING:
    from collections.abc import Iterable

_COUNTER_BITS: Final = 10


def hash_salt(run_id: str) -> int:
    """First hash of a run's tasks and futures: the same in every process, spread over runs.

    asyncio keeps the tasks of all runs in one set. If every run counted 1, 2, 3, each new task
    would collide with those of all other runs: creating one among 4,000 runs would take 40 us
    instead of 4.
    """
    name = run_id.encode(errors="surrogatepass")
    return ((zlib.crc32(name) << 29) ^ (zlib.crc32(name[::-1]) << _COUNTER_BITS)) & ~(
        (1 << _COUNTER_BITS) - 1
    )


def install(live_tasks: Callable[[Any], list[Any]]) -> None:
    """Replace `set` and `list` in `asyncio.tasks`; once per process.

    Args:
        live_tasks: the tasks of a loop that are not done, oldest first.
    """

    def ordered_set(*items: Iterable[Any]) -> Any:
        # asyncio fills an empty set with results and returns it to its caller: that must be a real
        # set.
        make: Callable[..., Any] = (
            dict.fromkeys if items and isinstance(running_loop(), WorkflowLoop) else set[Any]
        )
        return make(*items)

    def ordered_list(items: Iterable[Any] = ()) -> list[Any]:
        loop = running_loop() if isinstance(items, WeakSet) else None
        return live_tasks(loop) if isinstance(loop, WorkflowLoop) else list(items)

    names: dict[str, Any] = asyncio.tasks.__dict__
    names.update(set=ordered_set, list=ordered_list)
