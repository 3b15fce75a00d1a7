"""Heartbeats: an attempt that runs for longer than two seconds is reported as started; from then
on, the worker sends heartbeats for it.
"""

from __future__ import annotations

import asyncio
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from perdure.model import commands as cm
from perdure.model.tasks import Task, blocked_worker
from perdure.threads import watch_task
from perdure.worker.stopping import is_cancelled_by_activity, task_on

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from perdure.activity import Info

STARTED_AFTER_S: Final = 2.0
"""An attempt that runs longer is leased."""
BEAT_S: Final = 3.0
"""The pause between heartbeats: a third of a lease."""


class Running:
    """An attempt that the worker has.

    Attributes:
        delivered_at: when the worker took its task, monotonic seconds.
        since: when its function began, monotonic seconds; infinity while it waits for a thread.
        is_claimed: whether it was leased before its function began.
    """

    __slots__ = (
        "asyncio_task",
        "beats_at",
        "delivered_at",
        "details",
        "is_claimed",
        "is_leased",
        "since",
        "task",
    )

    def __init__(self, task: Task, delivered_at: float = 0.0) -> None:
        self.task = task
        self.delivered_at = delivered_at
        self.since = inf
        self.is_leased = self.is_claimed = False
        self.beats_at = 0.0
        self.details = b""
        self.asyncio_task: asyncio.Task[None] | None = None


class Heartbeats:
    """Reports that keep the leases of one worker's attempts.

    Args:
        worker: its name.
        running: the worker's attempts, by token; the worker changes it.
        submit: sends reports, from any thread.
    """

    def __init__(
        self,
        worker: str,
        running: Mapping[str, Running],
        submit: Callable[[Sequence[cm.AnyCommand]], None],
    ) -> None:
        self._worker = worker
        self._running = running
        self._submit = submit
        self._beating: asyncio.Task[None] | None = None

    def ensure(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start sending heartbeats; ends when the worker has no attempts."""
        if self._beating is None:
            self._beating = task_on(loop, self._beat())
            self._beating.add_done_callback(self._ended)
            watch_task(self._beating, "heartbeats of the worker")

    def started(self, running: Running) -> cm.StartActivity:
        """The report that leases an attempt."""
        return self._start(running, self._worker)

    def claimed(self, running: Running) -> None:
        """Note that the engine has given this attempt to this worker, and leased it."""
        running.is_claimed = running.is_leased = True
        running.beats_at = monotonic() + BEAT_S

    def heartbeat(self, running: Running) -> cm.HeartbeatActivity:
        """The report that renews a lease, with new details."""
        task = running.task
        details, running.details = running.details, b""
        return cm.HeartbeatActivity(
            task.workflow_id, task.run_id, number=task.number, token=task.token, details=details
        )

    def blocked(self, info: Info, trouble: str) -> None:
        """Report that an attempt blocks the loop. Called from another thread, because the loop
        itself cannot send the report.

        Args:
            info: identifies the attempt.
            trouble: the line where it blocks, for people.
        """
        for running in list(self._running.values()):
            task = running.task
            if (
                task.run_id == info.run_id
                and task.idempotency_key == info.idempotency_key
                and not running.is_leased
            ):
                self._submit([self._start(running, blocked_worker(self._worker, trouble))])

    def _ended(self, beating: asyncio.Task[None]) -> None:
        """Start again, a little later, if an activity has cancelled every task of the loop."""
        if beating is self._beating and is_cancelled_by_activity(beating):
            self._beating = None
            loop = beating.get_loop()
            loop.call_later(BEAT_S / 3, self._again, loop)

    def _again(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._running:
            self.ensure(loop)

    async def _beat(self) -> None:
        while self._running:
            await asyncio.sleep(min(1.0, STARTED_AFTER_S / 2))
            now = monotonic()
            commands = [
                beat for running in self._running.values() if (beat := self.due(running, now)) is not None
            ]
            if commands:
                self._submit(commands)
        self._beating = None

    def due(self, running: Running, now: float) -> cm.AnyCommand | None:
        """The report that is due for an attempt; None: no report is due.

        Args:
            running: the attempt.
            now: monotonic seconds.
        """
        if now < running.beats_at or (now - running.since < STARTED_AFTER_S and not running.is_claimed):
            return None
        if not running.is_leased:
            running.beats_at = now
            return self.started(running)
        running.beats_at = now + BEAT_S
        return self.heartbeat(running)

    def _start(self, running: Running, worker: str) -> cm.StartActivity:
        task = running.task
        running.is_leased = True
        return cm.StartActivity(
            task.workflow_id, task.run_id, number=task.number, token=task.token, worker=worker
        )
