"""The effects of a run's records in a round, netted out: what begins and ends within it never
happened.
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
        """The batch that recorded the event has sent it."""

    def reply(self, request: Request, reply: AnyReply) -> None:
        """The batch that recorded the event has answered."""

    def answered(self, run_id: str, subject: str, reply: AnyReply) -> None:
        """The same."""

    def failed(self, run: RunState, event: AnyEvent, activity: str = "") -> None:
        """The log of the engine that recorded it has it."""

    def dispatch(self, task: Task, *, is_inline: bool = False) -> None:
        """Keep it until it has ended."""
        key = (task.run_id, task.number)
        self._tasks[key] = task
        self._tasks_ended.discard(key)

    def end_task(self, task: tuple[str, int], *, is_step: bool) -> None:
        """It has ended."""
        self._tasks.pop(task, None)
        self._tasks_ended.add(task)

    def cancel(self, run_id: str, number: int, token: str, *, is_step: bool) -> None:
        """Long ago."""

    def produce(self, workflow_id: str, record: RecordProduced) -> None:
        """Nothing to do: the record is in its topic."""

    def arm(self, timer: Timer) -> None:
        """Keep it."""
        self._timers.add(timer)
        self._timers_ended.discard(timer)

    def disarm(self, timer: Timer) -> None:
        """Keep it no longer."""
        self._timers.discard(timer)
        self._timers_ended.add(timer)

    def write(self, changes: Changes, *, is_new: bool) -> None:
        """Write the net effects.

        Args:
            changes: written.
            is_new: the store has nothing of the run yet.
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
