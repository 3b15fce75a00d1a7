"""The worker: concurrent attempts, leases, cancellation, drain.

An attempt that runs for longer than two seconds is reported as started, and from there heartbeats
are sent for it: your code need not. A task whose activity is unknown here is left waiting, visibly.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from time import monotonic
from typing import Final

from perdure.activity import Info
from perdure.engine.failure_log import AttemptLog
from perdure.model import commands as cm
from perdure.model.tasks import Task, blocked_worker
from perdure.threads import watch_task
from perdure.worker.attempt import Attempts
from perdure.worker.details import encoded
from perdure.worker.stopping import stop

_logger: Final = logging.getLogger("perdure.worker")

STARTED_AFTER_S: Final = 2.0
"""An attempt that runs longer is leased."""
BEAT_S: Final = 3.0
"""Between heartbeats: a third of a lease."""


class Running:
    """An attempt that is out.

    Attributes:
        delivered_at: when the worker took its task, monotonic seconds.
        since: when its function began, monotonic seconds; infinity while it waits for a thread.
    """

    __slots__ = ("asyncio_task", "beats_at", "delivered_at", "details", "is_leased", "since", "task")

    def __init__(self, task: Task, delivered_at: float = 0.0) -> None:
        self.task = task
        self.delivered_at = delivered_at
        self.since = inf
        self.is_leased = False
        self.beats_at = 0.0
        self.details = b""
        self.asyncio_task: asyncio.Task[None] | None = None


class Worker:
    """Runs tasks on the running asyncio loop.

    Args:
        name: tells this worker from others in histories.
        attempts: runs one.
        submit: takes reports, from any thread; durable when the engine commits them.
        concurrency: concurrent attempts; more tasks wait here.
        attempt_log: gets attempts that fail; None where an engine of the same process logs them.
        is_leasing: whether attempts that run for long are leased; False where the engine's time is
            not the clock's.
    """

    def __init__(
        self,
        name: str,
        attempts: Attempts,
        submit: Callable[[Sequence[cm.AnyCommand]], None],
        concurrency: int = 200,
        *,
        attempt_log: AttemptLog | None = None,
        is_leasing: bool = True,
    ) -> None:
        self._attempt_log = attempt_log
        self._is_leasing = is_leasing
        self._name = name
        self._attempts = attempts
        self._submit = submit
        self._concurrency = concurrency
        self._waiting: deque[Task] = deque()
        self._waiting_since: dict[str, float] = {}
        self._began_at = monotonic()
        self._running: dict[str, Running] = {}
        self._reports: list[cm.AnyCommand] = []
        self._beating: asyncio.Task[None] | None = None
        self._is_draining = False

    @property
    def is_idle(self) -> bool:
        """Nothing runs, nothing waits, and all was reported."""
        return not (self._running or self._waiting or self._reports)

    @property
    def is_reporting(self) -> bool:
        """An attempt has ended, and its report is not handed over yet."""
        return bool(self._reports)

    @property
    def running(self) -> int:
        """Attempts that run."""
        return len(self._running)

    @property
    def running_tokens(self) -> list[str]:
        """Of the attempts that run."""
        return list(self._running)

    @property
    def waiting(self) -> int:
        """Tasks that have not begun: they wait for an attempt to end, or for a thread."""
        return len(self._waiting) + self._attempts.threads.waiting

    @property
    def oldest_waiting_s(self) -> float:
        """For how long the task has waited that has waited longest, seconds; from any thread."""
        since = [*list(self._waiting_since.values())[:1], *self._unbegun()]
        return max(0.0, monotonic() - min(since)) if since else 0.0

    @property
    def since_last_begin_s(self) -> float:
        """Seconds since an attempt last began, or since this worker was created."""
        return monotonic() - self._began_at

    def _unbegun(self) -> list[float]:
        return [running.delivered_at for running in list(self._running.values()) if running.since == inf]

    @property
    def name(self) -> str:
        """Tells this worker from others."""
        return self._name

    @property
    def held(self) -> list[Task]:
        """Tasks that have not ended; from any thread."""
        return [*self._waiting, *(running.task for running in list(self._running.values()))]

    def deliver(self, tasks: Sequence[Task]) -> None:
        """Take tasks; on the loop's thread."""
        now = monotonic()
        for task in tasks:
            if self._attempts.serves(task.name):
                self._waiting.append(task)
                self._waiting_since[task.token] = now
            else:
                self._submit([self._declined(task)])
        self._start_waiting()

    def cancel(self, tokens: Sequence[str]) -> None:
        """Ask attempts to stop; on the loop's thread. Nothing is reported of them."""
        for token in tokens:
            running = self._running.get(token)
            if running is not None and running.asyncio_task is not None:
                stop(running.asyncio_task, "the workflow no longer waits for it")
        if self._waiting and (gone := set(tokens)):
            self._keep_waiting(gone)

    def let_go(self, tokens: Sequence[str]) -> list[str]:
        """Other workers may run these attempts next; on the loop's thread. Attempts running here
        are reported as started, so that they are leased and nobody else runs them; those that wait
        are dropped.

        Returns:
            Those that were dropped.
        """
        gone = set(tokens)
        dropped = [task.token for task in self._waiting if task.token in gone]
        if dropped:
            self._keep_waiting(gone)
        started: list[cm.AnyCommand] = []
        for token in tokens:
            running = self._running.get(token)
            if running is None or running.is_leased:
                continue
            if running.since == inf and running.asyncio_task is not None:  # it waits for a thread
                stop(running.asyncio_task, "another worker may run it")
                dropped.append(token)
            else:
                started.append(self._started(running))
        if started:
            self._submit(started)
        return dropped

    def blocked(self, info: Info, trouble: str) -> None:
        """An attempt blocks the loop; from any other thread. The report is recorded, because the
        loop itself cannot send it.

        Args:
            info: of the attempt.
            trouble: where it stands, for people.
        """
        for running in list(self._running.values()):
            task = running.task
            if (
                task.run_id == info.run_id
                and task.idempotency_key == info.idempotency_key
                and not running.is_leased
            ):
                running.is_leased = True
                worker = blocked_worker(self._name, trouble)
                self._submit(
                    [
                        cm.StartActivity(
                            task.workflow_id, task.run_id, number=task.number, token=task.token, worker=worker
                        )
                    ]
                )

    async def drain(self, grace_s: float) -> int:
        """Take nothing new, let what runs end.

        Args:
            grace_s: how long, seconds; what still runs then is cancelled, and dispatched again
                after the restart.

        Returns:
            How many attempts were cut short.
        """
        self._is_draining = True
        self._waiting.clear()
        self._waiting_since.clear()
        out = [running.asyncio_task for running in self._running.values() if running.asyncio_task is not None]
        if out:
            _, late = await asyncio.wait(out, timeout=grace_s)
            for task in late:
                stop(task, "the worker stops")
            if late:
                names = ", ".join(
                    sorted({each.task.name for each in self._running.values() if each.asyncio_task in late})
                )
                _logger.warning(
                    "%d attempts were cut short after %g s and will run again: %s", len(late), grace_s, names
                )
                await asyncio.wait(late, timeout=1.0)
            self._flush()
            return len(late)
        return 0

    def _keep_waiting(self, gone: set[str]) -> None:
        """All but these."""
        self._waiting = deque(task for task in self._waiting if task.token not in gone)
        for token in gone:
            self._waiting_since.pop(token, None)

    def _start_waiting(self) -> None:
        waiting, running = self._waiting, self._running
        if self._is_draining:
            return
        loop = asyncio.get_running_loop()
        while waiting and len(running) < self._concurrency:
            task = waiting.popleft()
            if task.token in running:
                self._waiting_since.pop(task.token, None)
                continue
            attempt = running[task.token] = Running(
                task, self._waiting_since.pop(task.token, 0.0) or monotonic()
            )
            attempt.asyncio_task = loop.create_task(self._run(attempt))
            attempt.asyncio_task.add_done_callback(partial(self._forget, attempt))
        if running and self._beating is None and self._is_leasing:
            self._beating = loop.create_task(self._beat())
            watch_task(self._beating, "heartbeats of the worker")

    def _declined(self, task: Task) -> cm.DeclineActivity:
        known = ", ".join(sorted(self._attempts.names())) or "none"
        reason = (
            f"worker {self._name} has no activity {task.name!r}; it has: {known}. Waiting for a worker that "
            "has it."
        )
        return cm.DeclineActivity(
            task.workflow_id, task.run_id, number=task.number, token=task.token, reason=reason
        )

    async def _run(self, running: Running) -> None:
        task = running.task

        def heartbeat(details: tuple[object, ...]) -> None:
            running.details = encoded(details, task.name)

        def begin() -> None:
            running.since = self._began_at = monotonic()

        report: cm.AnyCommand
        try:
            report = await self._attempts.run(task, heartbeat, begin)
        except asyncio.CancelledError:
            return
        except BaseException as error:  # noqa: BLE001 - see `failed`
            report = self._attempts.failed(task, error)
        finally:
            self._forget(running)
        if not self._reports:
            asyncio.get_running_loop().call_soon(self._flush)
        if running.details and isinstance(report, cm.FailActivity):
            self._reports.append(self._heartbeat(running))  # the next attempt is to hear of it
        self._reports.append(report)
        if self._attempt_log is not None and isinstance(report, cm.FailActivity):
            where = {
                "workflow_id": task.workflow_id,
                "run_id": task.run_id,
                "workflow_type": task.workflow_type,
            }
            self._attempt_log.failed(
                task.name, report.failure, task.attempt, "the engine decides about the next one", **where
            )

    def _forget(self, running: Running, _: object = None) -> None:
        """It has ended; called again when its asyncio task is done, for one that is cancelled
        before its first line has no `finally`.
        """
        if self._running.get(running.task.token) is running:
            del self._running[running.task.token]
            if self._waiting:
                self._start_waiting()

    def _flush(self) -> None:
        """One submit for all that ended in one turn of the loop."""
        if self._reports:
            reports, self._reports = self._reports, []
            self._submit(reports)

    async def _beat(self) -> None:
        while self._running:
            await asyncio.sleep(min(1.0, STARTED_AFTER_S / 2))
            now = monotonic()
            commands = [
                beat
                for running in self._running.values()
                if (beat := self._beat_of(running, now)) is not None
            ]
            if commands:
                self._submit(commands)
        self._beating = None

    def _beat_of(self, running: Running, now: float) -> cm.AnyCommand | None:
        if now - running.since < STARTED_AFTER_S or now < running.beats_at:
            return None
        if not running.is_leased:
            running.beats_at = now
            return self._started(running)
        running.beats_at = now + BEAT_S
        return self._heartbeat(running)

    def _started(self, running: Running) -> cm.StartActivity:
        task = running.task
        running.is_leased = True
        return cm.StartActivity(
            task.workflow_id, task.run_id, number=task.number, token=task.token, worker=self._name
        )

    def _heartbeat(self, running: Running) -> cm.HeartbeatActivity:
        task = running.task
        details, running.details = running.details, b""
        return cm.HeartbeatActivity(
            task.workflow_id, task.run_id, number=task.number, token=task.token, details=details
        )
