"""The worker: concurrent attempts, leases, cancellation, drain.

An attempt that runs for longer than two seconds is reported as started; from then on, the worker
sends heartbeats for it, so your code need not. If the worker does not know the activity of a task,
it declines the task, and the run's description says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import inf
from time import monotonic
from typing import Final

from perdure.activity import Info
from perdure.authoring.attempt import Outlet, outlet
from perdure.engine.failure_log import AttemptLog
from perdure.model import commands as cm
from perdure.model.tasks import Task
from perdure.worker.attempt import Attempts
from perdure.worker.backlog import Backlog
from perdure.worker.claims import Claims
from perdure.worker.details import encoded
from perdure.worker.heartbeats import Heartbeats, Running
from perdure.worker.inline import run_once
from perdure.worker.reports import Reports
from perdure.worker.stopping import (
    is_cancelled_by_activity,
    is_end_awaited,
    never_begun,
    stop,
    stopped,
    task_on,
)

_logger: Final = logging.getLogger("perdure.worker")


class Worker:
    """Runs tasks on the running asyncio loop.

    Args:
        name: identifies this worker in histories.
        attempts: runs attempts.
        submit: sends reports, from any thread; they are durable when the engine commits them.
        concurrency: the most concurrent attempts; further tasks wait here.
        attempt_log: logs failed attempts; None if an engine in the same process logs them.
        is_leasing: whether long attempts are leased; False if the engine's time is simulated.

    Attributes:
        claims: claims of attempts that may not run twice.
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
        self._outlet = Outlet(submit, attempts.clients)
        self._concurrency = concurrency
        self._waiting = Backlog()
        self._began_at = monotonic()
        self._running: dict[str, Running] = {}
        self._heartbeats = Heartbeats(name, self._running, submit)
        self.claims = Claims(name, submit)
        self._reports = Reports(submit)
        self._is_draining = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, nothing waits, and everything was reported."""
        return not (self._running or self._waiting or self._reports)

    @property
    def is_reporting(self) -> bool:
        """Whether the report of a finished attempt was not handed over yet."""
        return bool(self._reports)

    @property
    def running(self) -> int:
        """The number of running attempts."""
        return len(self._running)

    @property
    def running_tokens(self) -> list[str]:
        """The tokens of the running attempts."""
        return list(self._running)

    @property
    def waiting(self) -> int:
        """The number of tasks that have not begun: they wait for an attempt to end, or for a
        thread.
        """
        return len(self._waiting) + self._attempts.threads.waiting

    @property
    def oldest_waiting_s(self) -> float:
        """The longest time that a task has waited, seconds; callable from any thread."""
        unbegun = [each.delivered_at for each in list(self._running.values()) if each.since == inf]
        since = [*self._waiting.oldest, *unbegun]
        return max(0.0, monotonic() - min(since)) if since else 0.0

    @property
    def since_last_begin_s(self) -> float:
        """Seconds since an attempt last began, or since this worker was created."""
        return monotonic() - self._began_at

    @property
    def name(self) -> str:
        """The name of this worker."""
        return self._name

    @property
    def held(self) -> list[Task]:
        """The number of unfinished tasks; callable from any thread."""
        return [*self._waiting.tasks, *(running.task for running in list(self._running.values()))]

    def deliver(self, tasks: Sequence[Task]) -> None:
        """Take tasks; called on the loop's thread."""
        now = monotonic()
        for task in tasks:
            if self._attempts.serves(task.name):
                self._waiting.add(task, now)
            else:
                self._submit([_declined(task, self._name, self._attempts.names())])
        self._start_waiting()

    def cancel(self, tokens: Sequence[str]) -> None:
        """Ask attempts to stop; called on the loop's thread. Their end is reported if the run waits
        for it.
        """
        for token in tokens:
            if " " in token and self.claims.decided(token):
                continue
            running = self._running.get(token)
            if running is not None and running.asyncio_task is not None:
                is_awaited = running.task.reports_stop
                stop(running.asyncio_task, "the workflow no longer waits for it", is_awaited=is_awaited)
        for task in self._waiting.drop(set(tokens)):
            if task.reports_stop:
                self._reports.add(stopped(task))

    def release(self, tokens: Sequence[str]) -> list[str]:
        """Give up tasks that other workers may get next; called on the loop's thread. Attempts that
        run here are reported as started, so that they are leased and no other worker runs them;
        waiting ones are dropped.

        Returns:
            The dropped tasks.
        """
        dropped = [task.token for task in self._waiting.drop(set(tokens))]
        started: list[cm.AnyCommand] = []
        for token in tokens:
            running = self._running.get(token)
            if running is None or running.is_leased:
                continue
            if running.since == inf and running.asyncio_task is not None:  # it waits for a thread
                stop(running.asyncio_task, "another worker may run it")
                dropped.append(token)
            else:
                started.append(self._heartbeats.started(running))
        if started:
            self._submit(started)
        return dropped

    def blocked(self, info: Info, trouble: str) -> None:
        """See `Heartbeats.blocked`."""
        self._heartbeats.blocked(info, trouble)

    async def drain(self, grace_s: float) -> int:
        """Take no new tasks, and let running attempts end.

        Args:
            grace_s: how long they may take, seconds; attempts that still run then are cancelled,
                and dispatched again after the restart.

        Returns:
            How many attempts were cut short.
        """
        self._is_draining = True
        self._waiting.clear()
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
            self._reports.flush()
            return len(late)
        return 0

    def _start_waiting(self) -> None:
        waiting, running = self._waiting, self._running
        if self._is_draining:
            return
        loop = asyncio.get_running_loop()
        while waiting and len(running) < self._concurrency:
            task, since = waiting.take()
            if task.token in running:
                continue
            attempt = running[task.token] = Running(task, since or monotonic())
            self._begin(attempt, loop)
        if running and self._is_leasing:
            self._heartbeats.ensure(loop)

    def _begin(self, attempt: Running, loop: asyncio.AbstractEventLoop) -> None:
        attempt.asyncio_task = task_on(loop, self._run(attempt))
        attempt.asyncio_task.add_done_callback(partial(self._forget, attempt))

    async def _run(self, running: Running) -> None:
        task = running.task

        def heartbeat(details: tuple[object, ...]) -> None:
            running.details = encoded(details, task.name)

        def begin() -> None:
            running.since = self._began_at = monotonic()

        report: cm.AnyCommand
        outlet.set(self._outlet)
        has_claimed = not task.is_at_most_once
        try:
            if has_claimed:
                report = await self._attempts.run(task, heartbeat, begin)
            elif await self.claims.claim(task):
                has_claimed = True
                self._heartbeats.claimed(running)
                report = await run_once(self._attempts, task, heartbeat, begin)
            else:
                return
        except asyncio.CancelledError:
            # An attempt that has asked for its claim may be another worker's.
            if not has_claimed or not is_end_awaited(asyncio.current_task()):
                return
            report = stopped(task)
        except BaseException as error:  # noqa: BLE001 - see `failed`
            report = self._attempts.failed(task, error)
        finally:
            self._forget(running)
        if running.details and isinstance(report, cm.FailActivity):
            self._reports.add(self._heartbeats.heartbeat(running))  # the next attempt gets the details
        self._reports.add(report)
        if self._attempt_log is not None and isinstance(report, cm.FailActivity):
            where = {
                "workflow_id": task.workflow_id,
                "run_id": task.run_id,
                "workflow_type": task.workflow_type,
            }
            self._attempt_log.failed(
                task.name, report.failure, task.attempt, "the engine decides about the next one", **where
            )

    def _forget(self, running: Running, ended: asyncio.Task[None] | None = None) -> None:
        """Forget an attempt that has ended. Also called when its asyncio task is done, since a task
        that is cancelled before its first line runs no `finally`.
        """
        task = running.task
        if self._running.get(task.token) is not running:
            return
        if ended is not None and is_cancelled_by_activity(ended):
            if not task.is_at_most_once:
                self._reports.add(never_begun(task))
            elif not self._is_draining:  # another worker may have claimed it
                self._begin(running, asyncio.get_running_loop())
                return
        del self._running[task.token]
        if is_end_awaited(ended):
            self._reports.add(stopped(task))
        if self._waiting:
            self._start_waiting()


def _declined(task: Task, worker: str, names: Iterable[str]) -> cm.DeclineActivity:
    known = ", ".join(sorted(names)) or "none"
    reason = (
        f"worker {worker} has no activity {task.name!r}; it has: {known}. Waiting for a worker that has it."
    )
    return cm.DeclineActivity(
        task.workflow_id, task.run_id, number=task.number, token=task.token, reason=reason
    )
