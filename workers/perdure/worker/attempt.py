"""One attempt of an activity: decode the arguments, run the function within its timeout, encode the
result, report.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from inspect import isawaitable
from typing import Any, Final, TypeVar

from msgspec import json

from perdure import activity, context, errors, interceptor
from perdure.activity import Activity, Attempt
from perdure.authoring.transaction import Recorded
from perdure.interceptor import Interceptor
from perdure.model import commands as cm
from perdure.model.failure import FailureInfo
from perdure.model.inline import InlineStep
from perdure.model.payloads import Payloads
from perdure.model.tasks import Task
from perdure.worker.activity_threads import ActivityThreads
from perdure.worker.functions import Functions, placed
from perdure.worker.stopping import was_asked_to_stop
from perdure.worker.streams import AttemptStreams, submitting

Alarm = Callable[[float, Callable[[], None]], Callable[[], None]]
"""Calls a function after some seconds; returns a function that cancels this."""
Heartbeat = Callable[[tuple[object, ...]], None]
Report = cm.AttemptReport

T = TypeVar("T")
_logger: Final = logging.getLogger("perdure.worker.attempts")
_TIMED_OUT: Final = "builtins:TimeoutError"


class Attempts:
    """Runs attempts, on the running asyncio loop; sync functions in threads.

    Args:
        activities: the activities by name.
        payloads: decodes arguments, encodes results.
        threads: for sync functions.
        instances: the instances whose methods are activities, by class.
        alarm: measures timeouts; by default the loop's clock does.
        interceptors: around each attempt, outermost first.

    Attributes:
        threads: for sync functions.
        functions: calls the activities' functions.
        outcomes: finished attempts, by ("step" or "activity", outcome: completed, failed,
            timed_out, deferred, cancelled).
    """

    def __init__(
        self,
        activities: Mapping[str, Activity[..., Any]],
        payloads: Payloads,
        threads: ActivityThreads,
        *,
        instances: Mapping[type[Any], Any],
        alarm: Alarm | None = None,
        interceptors: Sequence[Interceptor] = (),
    ) -> None:
        self._interceptors = interceptors
        self._activities = activities
        self._payloads = payloads
        self.threads = threads
        self.functions = Functions(activities, payloads, instances)
        self._alarm = alarm
        self.outcomes: Counter[tuple[str, str]] = Counter()

    def serves(self, name: str) -> bool:
        """Whether an activity of this name is registered."""
        return name in self._activities

    def names(self) -> Iterable[str]:
        """The names of the served activities."""
        return self._activities

    async def run(
        self, task: Task, heartbeat: Heartbeat, begin: Callable[[], None], step: InlineStep | None = None
    ) -> Report:
        """Run one attempt to its end.

        Args:
            task: the task of a served activity.
            heartbeat: called with the details passed to `activity.heartbeat`, from any thread.
            begin: called when the function begins: immediately, or when there is a thread for a
                sync one. The attempt's timeout runs from there.
            step: the function to run, if it is not registered.

        Raises:
            asyncio.CancelledError: the attempt was asked to stop.
        """
        if found := interceptor.at("attempt", self._interceptors):
            return await self._intercepted(found, task, heartbeat, begin, step)
        return await self._counted(task, heartbeat, begin, step)

    async def _intercepted(
        self,
        found: Sequence[Interceptor],
        task: Task,
        heartbeat: Heartbeat,
        begin: Callable[[], None],
        step: InlineStep | None,
    ) -> Report:
        try:
            return await interceptor.around_attempt(
                found, lambda tried: self._counted(tried, heartbeat, begin, step)
            )(task)
        except asyncio.CancelledError as error:
            me = asyncio.current_task()
            if me is None or was_asked_to_stop(me):
                raise
            while me.cancelling():  # an interceptor has cancelled the attempt
                me.uncancel()
            return self.failed(task, error)

    async def _counted(
        self, task: Task, heartbeat: Heartbeat, begin: Callable[[], None], step: InlineStep | None
    ) -> Report:
        outcome = "cancelled"
        try:
            report = await self._report(task, heartbeat, begin, step)
            outcome = _outcome(report)
        finally:
            self.outcomes["activity" if task.queue else "step", outcome] += 1
            _logger.debug(
                "activity %s of workflow %s: attempt %d %s",
                task.name,
                task.workflow_id,
                task.attempt,
                outcome,
            )
        return report

    async def _report(
        self, task: Task, heartbeat: Heartbeat, begin: Callable[[], None], step: InlineStep | None
    ) -> Report:
        timeout = _Timeout(task.timeout_us / 1_000_000, self._alarm)
        try:
            async with timeout.limit:
                result = await self._result(task, heartbeat, partial(_begin, timeout, begin), step)
        except _Raised as raised:
            return self.failed(task, raised.error)
        except asyncio.CancelledError as error:
            me = asyncio.current_task()
            if me is None or was_asked_to_stop(me):
                raise
            while me.cancelling():  # by your code itself
                me.uncancel()
            return self.failed(task, error)
        except BaseException as error:  # noqa: BLE001 - also SystemExit and KeyboardInterrupt: the worker goes on
            if isinstance(error, TimeoutError) and timeout.limit.expired():
                return self._timed_out(task)
            return self.failed(task, error)
        finally:
            timeout.end()
        if result is None:
            return cm.DeferActivity(
                task.workflow_id, task.run_id, number=task.number, token=task.token, ran_us=timeout.ran_us
            )
        return cm.CompleteActivity(
            task.workflow_id, task.run_id, number=task.number, token=task.token, result=result
        )

    async def _result(
        self, task: Task, heartbeat: Heartbeat, begin: Callable[[], None], step: InlineStep | None
    ) -> bytes | None:
        """The encoded result; None: the result comes later."""
        what = f"activity {task.name!r}" if step is None else f"step {task.name!r}"
        info = activity.Info(
            task.workflow_id,
            task.run_id,
            task.name,
            task.attempt,
            task.idempotency_key,
            queue=task.queue,
            workflow_type=task.workflow_type,
            scheduled_us=task.scheduled_at,
        )
        attempt = Attempt(
            info, heartbeat, tuple(json.decode(task.details)) if task.details else (), task=task
        )
        called: Activity[..., Any] | InlineStep
        if step is None:
            called = self._activities[task.name]
            call = await self._apart(partial(self.functions.call_of, called, task, what))
            if called.keeps_result:
                attempt.encode = partial(self._encoded, called, what)
        else:
            called, call = step, step.call
        streams: AttemptStreams | None = None

        def opened(name: str, annotation: Any) -> Callable[[Any], None]:
            nonlocal streams
            if streams is None:
                streams = AttemptStreams(task, self._payloads, submit, loop)
            return streams.open(name, annotation)

        if (submit := submitting.get()) is not None:
            loop = asyncio.get_running_loop()
            attempt.streams = opened
        try:
            value = await self._call(called, call, attempt, begin)
        except asyncio.CancelledError:
            # a sync function continues in its thread until its next heartbeat raises
            attempt.is_cancelled = True
            raise
        finally:
            if streams is not None:
                streams.flush()
        if attempt.is_later:
            return None
        if isinstance(value, Recorded):
            return value.payload
        return await self._apart(partial(self._encoded, called, what, value))

    def _encoded(self, called: Activity[..., Any] | InlineStep, what: str, value: object) -> bytes:
        try:
            return self._payloads.encode(value, called.returns, what=f"the result of {what}")
        except errors.PayloadError as error:
            raise placed(error, called) from None

    async def _apart(self, work: Callable[[], T]) -> T:
        """Encode or decode; in a thread, if that may wait for a store."""
        return await asyncio.to_thread(work) if self._payloads.may_wait else work()

    async def _call(
        self,
        called: Activity[..., Any] | InlineStep,
        fn: Callable[[], Any],
        attempt: Attempt,
        begin: Callable[[], None],
    ) -> Any:
        context.enter(attempt.task.context if attempt.task is not None else b"")
        with activity.running(attempt):
            if called.is_async or called.faked_by is not None:
                begin()
                value = fn()
                return await value if isawaitable(value) else value
            call = partial(_outcome_of, partial(contextvars.copy_context().run, fn))
            value, error = await self.threads.run(call, begin)
            if error is not None:
                raise _Raised(error)
            return await value if isawaitable(value) else value  # a plain decorator around an `async def`

    def failed(self, task: Task, error: BaseException) -> cm.FailActivity:
        """The report of an attempt whose function raised.

        The outermost coroutine of the asyncio task has to call this, too: if a task that the
        function awaits raises `GeneratorExit`, asyncio throws it past the coroutines in between,
        even if they handle it.
        """
        failure = self._payloads.encode_failure(error)
        return cm.FailActivity(
            task.workflow_id, task.run_id, number=task.number, token=task.token, failure=failure
        )

    def _timed_out(self, task: Task) -> cm.FailActivity:
        seconds = task.timeout_us / 1_000_000
        failure = FailureInfo(_TIMED_OUT, f"attempt {task.attempt} had no result within timeout={seconds:g}s")
        return cm.FailActivity(
            task.workflow_id,
            task.run_id,
            number=task.number,
            token=task.token,
            failure=failure,
            timed_out=True,
        )


class _Timeout:
    """The time limit of an attempt, which runs from `begin`.

    Attributes:
        limit: the timeout context around the attempt.
    """

    __slots__ = ("_alarm", "_began_at", "_call_off", "_seconds", "limit")

    def __init__(self, seconds: float, alarm: Alarm | None) -> None:
        self.limit = asyncio.timeout(None)
        self._seconds = seconds
        self._alarm = alarm
        self._call_off: Callable[[], None] | None = None
        self._began_at = 0.0

    @property
    def ran_us(self) -> int:
        """How long the function has run, microseconds; 0 if the loop's clock does not measure
        it.
        """
        return int((asyncio.get_running_loop().time() - self._began_at) * 1e6) if self._began_at else 0

    def begin(self) -> None:
        """The function begins."""
        if self._alarm is None:
            self._began_at = asyncio.get_running_loop().time()
            self.limit.reschedule(self._began_at + self._seconds)
        else:
            self._call_off = self._alarm(self._seconds, self._expire)

    def end(self) -> None:
        """The attempt has ended."""
        if self._call_off is not None:
            self._call_off()

    def _expire(self) -> None:
        self.limit.reschedule(asyncio.get_running_loop().time())


def _begin(timeout: _Timeout, begin: Callable[[], None]) -> None:
    timeout.begin()
    begin()


class _Raised(Exception):
    """The exception of a plain function."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _outcome_of(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """Call a function in a thread, and return its result or its exception.

    The exception is returned as a value, since a future does not carry every exception: it rejects
    `StopIteration` and replaces some others.
    """
    try:
        return call(), None
    except BaseException as error:  # noqa: BLE001 - the author's
        return None, error


def _outcome(report: Report) -> str:
    if isinstance(report, cm.CompleteActivity):
        return "completed"
    if isinstance(report, cm.DeferActivity):
        return "deferred"
    return "timed_out" if report.timed_out else "failed"
