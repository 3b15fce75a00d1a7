"""Tasks that a worker has received and cannot begin yet, because it runs as many attempts as it
may.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perdure.model.tasks import Task


class Backlog:
    """The waiting tasks of one worker, oldest first."""

    __slots__ = ("_since", "_tasks")

    def __init__(self) -> None:
        self._tasks: deque[Task] = deque()
        self._since: dict[str, float] = {}

    def __len__(self) -> int:
        """Number of tasks."""
        return len(self._tasks)

    @property
    def tasks(self) -> list[Task]:
        """All waiting tasks; callable from any thread."""
        return list(self._tasks)

    @property
    def oldest(self) -> list[float]:
        """Since when the first has waited, monotonic seconds; None: there is none. Callable from
        any thread.
        """
        return list(self._since.values())[:1]

    def add(self, task: Task, now: float) -> None:
        """Add a task.

        Args:
            task: the task.
            now: monotonic seconds.
        """
        self._tasks.append(task)
        self._since[task.token] = now

    def take(self) -> tuple[Task, float]:
        """Remove the first task; return it with the time since which it has waited; 0: a task with
        the same token preceded it.
        """
        task = self._tasks.popleft()
        return task, self._since.pop(task.token, 0.0)

    def drop(self, tokens: set[str]) -> list[Task]:
        """Remove tasks by token; return those that were waiting."""
        dropped = [task for task in self._tasks if task.token in tokens]
        if self._tasks:
            self._tasks = deque(task for task in self._tasks if task.token not in tokens)
            for token in tokens:
                self._since.pop(token, None)
        return dropped

    def clear(self) -> None:
        """Remove all tasks."""
        self._tasks.clear()
        self._since.clear()
