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
from typing import Any, Final

from msgspec import json

from perdure import activity, context, errors, interceptor
from perdure.activity import Activity, Attempt
from perdure.authoring.attempt import Clients, current
from perdure.authoring.transaction import Recorded
from perdure.interceptor import Interceptor
from perdure.model import commands as cm
from perdure.model.failure import FailureInfo
from perdure.model.inline import InlineStep
from perdure.model.payloads import Payloads
from perdure.model.tasks import Task
from perdure.worker.activity_threads import ActivityThreads
from perdure.worker.functions import Functions, placed
from perdure.worker.recursion import restore_limit
from perdure.worker.stopping import has_time, was_asked_to_stop
from perdure.worker.streams import opener
from perdure.worker.time_limits import Alarm, Deadlines, Heartbeat, TimeLimit

Report = cm.AttemptReport
_Outcome = tuple[Any, BaseException | None]
"""The result or the exception of a function."""

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
        clients: gives attempts a client; None: they get none.
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
        self._may_wait = payloads.may_wait
        self.threads = threads
        self.functions = Functions(activities, payloads, instances)
        self._alarm = alarm
        self.clients: Clients | None = None
        self._deadlines = Deadlines()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open_stream = opener(payloads, self._loop_here)
        self.outcomes: Counter[tuple[str, str]] = Counter()

    def _loop_here(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None, "an attempt runs"
        return self._loop

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
            restore_limit(task.name)
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
        me = asyncio.current_task()
        assert me is not None
        self._loop = me.get_loop()
        limit = TimeLimit(
            me,
            task.timeout_us / 1_000_000,
            task.heartbeat_timeout_us / 1_000_000,
            deadlines=self._deadlines,
            alarm=self._alarm,
        )
        if task.heartbeat_timeout_us:
            heartbeat = limit.heard(heartbeat)
        try:
            result = await self._result(task, heartbeat, partial(_begin, limit, begin), step)
        except Raised as raised:
            return self.failed(task, raised.error)
        except asyncio.CancelledError as error:
            if limit.has_cancelled():
                return _timed_out(task, is_silent=limit.is_silent)
            if was_asked_to_stop(me):
                raise
            while me.cancelling() > limit.has_expired:  # by your code itself
                me.uncancel()
            return self.failed(task, error)
        except BaseException as error:  # noqa: BLE001 - also SystemExit and KeyboardInterrupt: the worker continues
            if isinstance(error, TimeoutError) and limit.has_expired:
                return _timed_out(task, is_silent=limit.is_silent)
            return self.failed(task, error)
        finally:
            limit.end()
            if limit.has_expired:
                me.uncancel()
        if result is None:
            return cm.DeferActivity(
                task.workflow_id, task.run_id, number=task.number, token=task.token, ran_us=limit.ran_us
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
        details = tuple(json.decode(task.details)) if task.details else ()
        attempt = Attempt(info, heartbeat, details, task=task, open_stream=self._open_stream)
        called: Activity[..., Any] | InlineStep
        if step is None:
            called = self._activities[task.name]
            if self._may_wait:
                call = await asyncio.to_thread(self.functions.call_of, called, task)
            else:
                call = self.functions.call_of(called, task)
            if called.keeps_result:
                attempt.encode = partial(self._encoded, called, what)
        else:
            called, call = step, step.call
        try:
            value = await self._call(called, call, attempt, begin)
        except asyncio.CancelledError:
            # a sync function continues in its thread until its next heartbeat raises
            attempt.is_cancelled = True
            raise
        finally:
            if (streams := attempt.streams) is not None:
                streams.flush()
        if attempt.is_later:
            return None
        if isinstance(value, Recorded):
            return value.payload
        if self._may_wait:
            return await asyncio.to_thread(self._encoded, called, what, value)
        return self._encoded(called, what, value)

    def _encoded(self, called: Activity[..., Any] | InlineStep, what: str, value: object) -> bytes:
        try:
            return self._payloads.encode(value, called.returns, what=f"the result of {what}")
        except errors.PayloadError as error:
            raise placed(error, called) from None

    async def _call(
        self,
        called: Activity[..., Any] | InlineStep,
        fn: Callable[[], Any],
        attempt: Attempt,
        begin: Callable[[], None],
    ) -> Any:
        if (task := attempt.task) is not None:
            context.enter(task.context)
        token = current.set(attempt)
        try:
            if called.is_async or called.faked_by is not None:
                begin()
                value = fn()
                return await value if isawaitable(value) else value
            call = partial(_outcome_of, partial(contextvars.copy_context().run, fn), called.name)
            value, error = await _in_thread(self.threads, call, begin, attempt)
            if error is not None:
                raise Raised(error)
            return await value if isawaitable(value) else value  # a plain decorator around an `async def`
        finally:
            current.reset(token)

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


async def _in_thread(
    threads: ActivityThreads, call: Callable[[], _Outcome], begin: Callable[[], None], attempt: Attempt
) -> _Outcome:
    """Call a plain function in a thread. If the run waits for the end of an attempt that it has
    cancelled, the function is waited for: its next heartbeat tells it to stop.
    """
    if attempt.task is None or not attempt.task.reports_stop:
        return await threads.run(call, begin)
    has_begun = asyncio.Event()

    def note() -> None:
        has_begun.set()
        begin()

    running = asyncio.ensure_future(threads.run(call, note))
    while True:
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            if not has_begun.is_set() or not has_time(asyncio.current_task()):
                running.cancel()
                raise
            attempt.is_cancelled = True


def _begin(limit: TimeLimit, begin: Callable[[], None]) -> None:
    limit.begin()
    begin()


def _timed_out(task: Task, *, is_silent: bool) -> cm.FailActivity:
    if is_silent:
        seconds = task.heartbeat_timeout_us / 1_000_000
        said = f"sent no heartbeat within heartbeat_timeout={seconds:g}s"
    else:
        said = f"had no result within timeout={task.timeout_us / 1_000_000:g}s"
    failure = FailureInfo(_TIMED_OUT, f"attempt {task.attempt} {said}")
    return cm.FailActivity(
        task.workflow_id,
        task.run_id,
        number=task.number,
        token=task.token,
        failure=failure,
        timed_out=True,
    )


class Raised(Exception):
    """The exception of a plain function."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _outcome_of(call: Callable[[], Any], name: str) -> _Outcome:
    """Call a function in a thread, and return its result or its exception.

    The exception is returned as a value, since a future does not carry every exception: it rejects
    `StopIteration` and replaces some others.
    """
    try:
        return call(), None
    except BaseException as error:  # noqa: BLE001 - the author's
        return None, error
    finally:
        restore_limit(name)


def _outcome(report: Report) -> str:
    if isinstance(report, cm.CompleteActivity):
        return "completed"
    if isinstance(report, cm.DeferActivity):
        return "deferred"
    return "timed_out" if report.timed_out else "failed"
