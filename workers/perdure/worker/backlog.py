"""Tasks that a worker has taken and not begun: as many attempts as it may run are out."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perdure.model.tasks import Task


class Backlog:
    """The tasks of one worker that wait, oldest first."""

    __slots__ = ("_since", "_tasks")

    def __init__(self) -> None:
        self._tasks: deque[Task] = deque()
        self._since: dict[str, float] = {}

    def __len__(self) -> int:
        """Number of tasks."""
        return len(self._tasks)

    @property
    def tasks(self) -> list[Task]:
        """All of them; from any thread."""
        return list(self._tasks)

    @property
    def oldest(self) -> list[float]:
        """Since when the first has waited, monotonic seconds; empty: there is none. From any
        thread.
        """
        return list(self._since.values())[:1]

    def add(self, task: Task, now: float) -> None:
        """One more.

        Args:
            task: the task.
            now: monotonic seconds.
        """
        self._tasks.append(task)
        self._since[task.token] = now

    def take(self) -> tuple[Task, float]:
        """Remove the first, with the time from which it has waited; 0: a task with the same token
        was before it.
        """
        task = self._tasks.popleft()
        return task, self._since.pop(task.token, 0.0)

    def drop(self, tokens: set[str]) -> list[str]:
        """Remove these; the tokens of those that were here."""
        dropped = [task.token for task in self._tasks if task.token in tokens]
        if self._tasks:
            self._tasks = deque(task for task in self._tasks if task.token not in tokens)
            for token in tokens:
                self._since.pop(token, None)
        return dropped

    def clear(self) -> None:
        """Remove all."""
        self._tasks.clear()
        self._since.clear()
