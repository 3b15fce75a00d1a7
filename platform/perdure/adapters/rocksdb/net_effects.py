"""Nets out the effects of a run's records in a round: an effect that begins and ends within the
round is not written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perdure.adapters.rocksdb.changes import Changes
    from perdure.core.state import RunState
    from perdure.model.commands import AnyCommand, Request
    from perdure.model.events import AnyEvent, RecordProduced
    from perdure.model.replies import AnyReply
    from perdure.model.tasks import Task
    from perdure.model.timers import Timer


class NetEffects:
    """`core.machine.Outbox` that writes `Changes`."""

    __slots__ = ("_tasks", "_tasks_ended", "_timers", "_timers_ended")

    def __init__(self) -> None:
        self._tasks: dict[tuple[str, int], Task] = {}
        self._tasks_ended: set[tuple[str, int]] = set()
        self._timers: set[Timer] = set()
        self._timers_ended: set[Timer] = set()

    def send(self, command: AnyCommand) -> None:
        """Do nothing: the batch that recorded the event has sent the command."""

    def reply(self, request: Request, reply: AnyReply) -> None:
        """Do nothing: the batch that recorded the event has sent the reply."""

    def answered(self, run_id: str, subject: str, reply: AnyReply) -> None:
        """Do nothing: the batch that recorded the event has sent the answers."""

    def failed(self, run: RunState, event: AnyEvent, activity: str = "") -> None:
        """Do nothing: the engine that recorded the failure has logged it."""

    def dispatch(self, task: Task, *, is_inline: bool = False) -> None:
        """Store a task until it has ended."""
        key = (task.run_id, task.number)
        self._tasks[key] = task
        self._tasks_ended.discard(key)

    def end_task(self, task: tuple[str, int], *, is_step: bool) -> None:
        """Forget a task that has ended."""
        self._tasks.pop(task, None)
        self._tasks_ended.add(task)

    def cancel(self, run_id: str, number: int, token: str, *, is_step: bool) -> None:
        """Do nothing: the worker was asked to stop when the event was recorded."""

    def produce(self, workflow_id: str, record: RecordProduced) -> None:
        """Do nothing: the record is in its topic."""

    def arm(self, timer: Timer) -> None:
        """Store a timer."""
        self._timers.add(timer)
        self._timers_ended.discard(timer)

    def disarm(self, timer: Timer) -> None:
        """Remove a timer."""
        self._timers.discard(timer)
        self._timers_ended.add(timer)

    def write(self, changes: Changes, *, is_new: bool) -> None:
        """Write the net effects.

        Args:
            changes: written.
            is_new: whether the store has no data of the run yet.
        """
        for task in self._tasks.values():
            changes.put_task(task)
        for timer in self._timers:
            changes.arm(timer)
        if not is_new:
            for run_id, number in self._tasks_ended:
                changes.end_task(run_id, number)
            for timer in self._timers_ended:
                changes.disarm(timer)
