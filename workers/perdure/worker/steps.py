"""Local activities, run on an asyncio loop in another thread of the engine's process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from perdure.authoring.attempt import Outlet, outlet
from perdure.errors import InfrastructureError
from perdure.model import commands as cm
from perdure.model.failure import FailureInfo
from perdure.model.inline import InlineTask
from perdure.model.tasks import Task
from perdure.worker.attempt import Attempts
from perdure.worker.details import encoded
from perdure.worker.inline import run_inline
from perdure.worker.reports import Reports
from perdure.worker.stopping import (
    is_cancelled_by_activity,
    is_end_awaited,
    never_begun,
    stop,
    stopped,
    task_on,
)

STOP_S: Final = 1.0
"""How long cancelled steps may take to clean up, seconds."""

_Asked = Task | InlineTask
"""A step; an inline one comes with its function."""

DETAILS_KEPT: Final = 10_000
"""The number of steps whose details are remembered."""


class LocalSteps:
    """`engine.ports.Steps` on an asyncio loop that runs in another thread.

    Args:
        loop: a running loop.
        attempts: runs attempts.
        submit: `Log.submit`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        attempts: Attempts,
        submit: Callable[[Sequence[cm.AnyCommand]], None],
    ) -> None:
        self._loop = loop
        self._attempts = attempts
        self._running: dict[tuple[str, int], tuple[str, asyncio.Task[None], Task]] = {}
        self._submit = submit
        self._outlet = Outlet(submit, attempts.clients)
        self._reports = Reports(submit)
        self._details: dict[tuple[str, int], bytes] = {}
        self._asked = 0
        self._held: list[_Asked] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether every step has ended and was reported."""
        return not (self._asked or self._running or self._reports or self._held)

    @property
    def is_reporting(self) -> bool:
        """Whether a requested step has not begun, or the report of a finished one was not handed
        over yet.
        """
        return bool(self._asked or self._reports)

    @property
    def running(self) -> int:
        """The number of running steps."""
        return len(self._running)

    @property
    def running_tokens(self) -> list[str]:
        """The tokens of the running attempts."""
        return [token for token, _, _ in list(self._running.values())]

    def hold(self) -> None:
        """Start no step until `release`; called before the engine opens."""
        self._held = []

    def release(self) -> None:
        """Start the steps that were held; called on the engine's thread."""
        self._loop.call_soon_threadsafe(self._release)

    def start(self, tasks: Sequence[Task]) -> None:
        """Start steps; called on the engine's thread."""
        self._asked += 1
        self._call(self._start, list(tasks))

    def start_inline(self, tasks: Sequence[InlineTask]) -> None:
        """Start steps; called on the engine's thread."""
        self._asked += 1
        self._call(self._start, list(tasks))

    def cancel(self, run_id: str, number: int) -> None:
        """Ask a step to stop; called on the engine's thread."""
        self._call(self._cancel, (run_id, number))

    def _call(self, method: Callable[..., None], argument: object) -> None:
        try:
            self._loop.call_soon_threadsafe(method, argument)
        except RuntimeError as error:  # no command is to blame
            raise InfrastructureError("the loop that runs steps has ended; restart this process") from error

    async def cancel_all(self) -> None:
        """Cancel running steps; called on the loop. Nothing is reported: the next engine starts
        these steps again.
        """
        running = list(self._running.values())
        for _, each, _ in running:
            stop(each, "the engine stops")
        if running:
            await asyncio.wait([each for _, each, _ in running], timeout=STOP_S)

    def _start(self, tasks: list[_Asked]) -> None:
        self._asked -= 1
        if self._held is not None:
            self._held += tasks
            return
        for asked in tasks:
            inline: InlineTask | None = None
            if isinstance(asked, Task):
                task = asked
            else:
                inline, task = asked, asked.task
            key = (task.run_id, task.number)
            if inline is not None and inline.is_at_most_once:
                earlier = self._running.get(key)
                if earlier is not None and earlier[0] == task.token:
                    continue  # its partition was lost and regained: the requested step already runs
            self._begin(key, task, inline)

    def _begin(self, key: tuple[str, int], task: Task, inline: InlineTask | None) -> None:
        running = task_on(self._loop, self._run(task, inline))
        running.add_done_callback(partial(self._end_unbegun, key, inline))
        self._running[key] = task.token, running, task

    def _release(self) -> None:
        held, self._held = self._held, None
        if held:
            self._asked += 1
            self._start(held)

    def _cancel(self, key: tuple[str, int]) -> None:
        if self._held:
            for each in self._held:
                task = _task_of(each)
                if (task.run_id, task.number) == key and task.reports_stop:
                    self._reports.add(stopped(task))
            self._held = [
                each for each in self._held if (_task_of(each).run_id, _task_of(each).number) != key
            ]
        if running := self._running.get(key):
            is_awaited = running[2].reports_stop
            stop(running[1], "the workflow no longer waits for it", is_awaited=is_awaited)

    async def _run(self, task: Task, inline: InlineTask | None) -> None:
        key = (task.run_id, task.number)
        details = self._details.pop(key, task.details)
        if details:
            task = replace(task, details=details)
            inline = None if inline is None else inline._replace(task=task)

        def heartbeat(given: tuple[object, ...]) -> None:
            nonlocal details
            details = encoded(given, task.name)

        report: cm.AnyCommand
        outlet.set(self._outlet)
        try:
            if inline is not None:
                report = await run_inline(self._attempts, inline, heartbeat, _begun)
            elif self._attempts.serves(task.name):
                report = await self._attempts.run(task, heartbeat, _begun)
            else:
                report = _unknown(task)
        except asyncio.CancelledError:
            if not is_end_awaited(asyncio.current_task()):
                return
            report = stopped(task)
        except BaseException as error:  # noqa: BLE001 - see `failed`
            report = self._attempts.failed(task, error)
        finally:
            running = asyncio.current_task()
            if running is not None:
                self._forget(key, running)
        if details and isinstance(report, cm.FailActivity):
            self._keep(key, details)
        self._reports.add(report)

    def _keep(self, key: tuple[str, int], details: bytes) -> None:
        """Remember the details of a heartbeat for the next attempt, which runs in this process. A
        restart loses them, as it does those of workers.
        """
        self._details[key] = details
        if len(self._details) > DETAILS_KEPT:
            del self._details[next(iter(self._details))]

    def _forget(self, key: tuple[str, int], ended: asyncio.Task[Any]) -> None:
        """Forget a step that has ended. After an aborted batch, another step may have the same
        key.
        """
        if (running := self._running.get(key)) and running[1] is ended:
            del self._running[key]

    def _end_unbegun(self, key: tuple[str, int], inline: InlineTask | None, ended: asyncio.Task[Any]) -> None:
        """Forget a step that was cancelled before its first line, since that runs no `finally`."""
        running = self._running.get(key)
        if running is None or running[1] is not ended:
            return
        del self._running[key]
        if is_end_awaited(ended):
            self._reports.add(stopped(running[2]))
        elif is_cancelled_by_activity(ended):
            if inline is not None and inline.is_at_most_once:
                self._begin(key, running[2], inline)  # a failure would hide that its outcome is unknown
            else:
                self._reports.add(never_begun(running[2]))


def _task_of(asked: _Asked) -> Task:
    return asked if isinstance(asked, Task) else asked.task


def _begun() -> None:
    """Do nothing: a step has no lease."""


def _unknown(task: Task) -> cm.FailActivity:
    failure = FailureInfo(
        f"{LookupError.__module__}:{LookupError.__name__}",
        f"unknown step {task.name!r}; deploy the code that defines it",
    )
    return cm.FailActivity(
        task.workflow_id, task.run_id, number=task.number, token=task.token, failure=failure
    )
