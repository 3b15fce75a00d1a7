"""One attempt of an activity: decode, run within its time, encode, report."""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Executor
from inspect import isawaitable
from typing import Any, Final

from msgspec import json

from perdure import activity, errors, tracing
from perdure.activity import Activity, Attempt
from perdure.model import commands as cm
from perdure.model.failure import FailureInfo
from perdure.model.payloads import Payloads
from perdure.model.tasks import Task

Report = cm.CompleteActivity | cm.FailActivity

_TIMED_OUT: Final = "builtins:TimeoutError"


class Attempts:
    """Runs attempts, on the running asyncio loop; sync functions in threads.

    Args:
        activities: by name.
        payloads: decodes arguments, encodes results.
        threads: for sync functions.
        instances: of the classes whose methods are activities.

    Attributes:
        outcomes: attempts that have ended, by ("step" or "activity", how: completed, failed, timed_out, cancelled).
    """

    def __init__(
        self,
        activities: Mapping[str, Activity[..., Any]],
        payloads: Payloads,
        threads: Executor,
        instances: Mapping[type[Any], Any],
    ) -> None:
        self._activities = activities
        self._payloads = payloads
        self._threads = threads
        self._instances = instances
        self.outcomes: Counter[tuple[str, str]] = Counter()

    def serves(self, name: str) -> bool:
        """Whether there is an activity of this name here."""
        return name in self._activities

    def names(self) -> Iterable[str]:
        """Of the activities that are served."""
        return self._activities

    async def run(self, task: Task, heartbeat: Callable[[tuple[object, ...]], None]) -> Report:
        """Run one attempt to its end.

        Args:
            task: of an activity that is served here.
            heartbeat: called with the details that the author gives, from any thread.

        Raises:
            asyncio.CancelledError: the attempt was asked to stop.
        """
        if (tracer := tracing.installed) is None:
            return await self._counted(task, heartbeat)
        about: dict[str, str | int] = {
            "workflow_id": task.workflow_id,
            "run_id": task.run_id,
            "attempt": task.attempt,
            "queue": task.queue,
        }
        with tracer.span(f"activity {task.name}", "consumer", about, task.trace) as span:
            report = await self._counted(task, heartbeat)
            if type(report) is cm.FailActivity:
                span.failed(f"{report.failure.type}: {report.failure.message}")
            return report

    async def _counted(self, task: Task, heartbeat: Callable[[tuple[object, ...]], None]) -> Report:
        outcome = "cancelled"
        try:
            report = await self._report(task, heartbeat)
            outcome = _outcome(report)
        finally:
            self.outcomes["activity" if task.queue else "step", outcome] += 1
        return report

    async def _report(self, task: Task, heartbeat: Callable[[tuple[object, ...]], None]) -> Report:
        timeout = asyncio.timeout(task.timeout_us / 1_000_000)
        try:
            async with timeout:
                result = await self._result(task, heartbeat)
        except KeyboardInterrupt:
            raise
        except asyncio.CancelledError as error:
            me = asyncio.current_task()
            if me is None or me.cancelling():
                raise
            return self._failed(task, error)  # the author's code raised it, nobody had cancelled
        except BaseException as error:  # noqa: BLE001 - also SystemExit: the worker goes on
            if isinstance(error, TimeoutError) and timeout.expired():
                return self._timed_out(task)
            return self._failed(task, error)
        return cm.CompleteActivity(task.workflow_id, task.run_id, number=task.number, token=task.token, result=result)

    async def _result(self, task: Task, heartbeat: Callable[[tuple[object, ...]], None]) -> bytes:
        what = f"activity {task.name!r}"
        info = activity.Info(task.workflow_id, task.run_id, task.name, task.attempt, task.idempotency_key)
        attempt = Attempt(info, heartbeat, tuple(json.decode(task.details)) if task.details else ())
        called = self._activities[task.name]
        args, kwargs = self._payloads.decode_arguments(called.fn, task.input, what=what)
        try:
            value = await self._call(called, called.faked_by or self._bound(called), args, kwargs, attempt)
        except asyncio.CancelledError:
            attempt.is_cancelled = True  # a sync function goes on in its thread: it is told at its next heartbeat
            raise
        return self._payloads.encode(value, what=f"the result of {what}")

    def _bound(self, called: Activity[..., Any]) -> Callable[..., Any]:
        if called.owner is None:
            return called.fn
        instance = self._instances.get(called.owner)
        if instance is None:
            raise errors.UsageError(
                f"activity {called.name!r} is a method of {called.owner.__name__}, and nothing provides one: "
                f"write `@activity.provide async def name() -> AsyncIterator[{called.owner.__name__}]: yield …`"
            )
        bound: Callable[..., Any] = called.fn.__get__(instance)
        return bound

    async def _call(
        self, called: Activity[..., Any], fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], attempt: Attempt
    ) -> Any:
        with activity.running(attempt):
            if called.is_async or called.faked_by is not None:
                value = fn(*args, **kwargs)
                return await value if isawaitable(value) else value
            context = contextvars.copy_context()
            call: Awaitable[Any] = asyncio.get_running_loop().run_in_executor(
                self._threads, lambda: context.run(fn, *args, **kwargs)
            )
            return await call

    def _failed(self, task: Task, error: BaseException) -> cm.FailActivity:
        failure = self._payloads.encode_failure(error)
        return cm.FailActivity(task.workflow_id, task.run_id, number=task.number, token=task.token, failure=failure)

    def _timed_out(self, task: Task) -> cm.FailActivity:
        seconds = task.timeout_us / 1_000_000
        failure = FailureInfo(_TIMED_OUT, f"attempt {task.attempt} had no result within timeout={seconds:g}s")
        return cm.FailActivity(
            task.workflow_id, task.run_id, number=task.number, token=task.token, failure=failure, timed_out=True
        )


def _outcome(report: Report) -> str:
    if isinstance(report, cm.CompleteActivity):
        return "completed"
    return "timed_out" if report.timed_out else "failed"
