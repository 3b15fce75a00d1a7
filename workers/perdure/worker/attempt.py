"""One attempt of an activity: decode the arguments, run the function within its timeout, encode the
result, report.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from inspect import isawaitable
from typing import Any, Final, TypeVar

from msgspec import json

from perdure import activity, context, errors, interceptor
from perdure.activity import Activity, Attempt
from perdure.authoring.attempt import Clients
from perdure.authoring.attempt import outlet as outlet_here
from perdure.authoring.transaction import Recorded
from perdure.interceptor import Interceptor
from perdure.model import commands as cm
from perdure.model.failure import FailureInfo
from perdure.model.inline import InlineStep
from perdure.model.payloads import Payloads
from perdure.model.tasks import Task
from perdure.worker.activity_threads import ActivityThreads
from perdure.worker.functions import Functions, placed
from perdure.worker.stopping import has_time, was_asked_to_stop
from perdure.worker.streams import AttemptStreams

Alarm = Callable[[float, Callable[[], None]], Callable[[], None]]
"""Calls a function after some seconds; returns a function that cancels this."""
Heartbeat = Callable[[tuple[object, ...]], None]
Report = cm.AttemptReport
_Outcome = tuple[Any, BaseException | None]
"""The result or the exception of a function."""

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
        self.threads = threads
        self.functions = Functions(activities, payloads, instances)
        self._alarm = alarm
        self.clients: Clients | None = None
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
        timeout = _Timeout(task.timeout_us / 1_000_000, task.heartbeat_timeout_us / 1_000_000, self._alarm)
        if task.heartbeat_timeout_us:
            heartbeat = timeout.heard(heartbeat)
        try:
            async with timeout.limit:
                result = await self._result(task, heartbeat, partial(_begin, timeout, begin), step)
        except Raised as raised:
            return self.failed(task, raised.error)
        except asyncio.CancelledError as error:
            me = asyncio.current_task()
            if me is None or was_asked_to_stop(me):
                raise
            while me.cancelling():  # by your code itself
                me.uncancel()
            return self.failed(task, error)
        except BaseException as error:  # noqa: BLE001 - also SystemExit and KeyboardInterrupt: the worker continues
            if isinstance(error, TimeoutError) and timeout.limit.expired():
                return self._timed_out(task, is_silent=timeout.is_silent)
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
            assert outlet is not None  # otherwise it is given to nobody
            if streams is None:
                streams = AttemptStreams(task, self._payloads, outlet.submit, loop)
            return streams.open(name, annotation)

        if (outlet := outlet_here.get()) is not None:
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
            value, error = await _in_thread(self.threads, call, begin, attempt)
            if error is not None:
                raise Raised(error)
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

    def _timed_out(self, task: Task, *, is_silent: bool) -> cm.FailActivity:
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


class _Timeout:
    """The time limit of an attempt, which runs from `begin`; and of silence between heartbeats.

    Attributes:
        limit: the timeout context around the attempt.
        is_silent: it was the silence that was too long.
    """

    __slots__ = (
        "_alarm",
        "_began_at",
        "_call_off",
        "_call_off_silence",
        "_seconds",
        "_silence_s",
        "is_silent",
        "limit",
    )

    def __init__(self, seconds: float, silence_s: float, alarm: Alarm | None) -> None:
        self._silence_s = silence_s
        self._call_off_silence: Callable[[], None] | None = None
        self.is_silent = False
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
        if self._silence_s:
            self._listen()

    def end(self) -> None:
        """The attempt has ended."""
        if self._call_off is not None:
            self._call_off()
        if self._call_off_silence is not None:
            self._call_off_silence()
            self._silence_s = 0.0

    def heard(self, heartbeat: Heartbeat) -> Heartbeat:
        """The function for heartbeats, which also ends the silence; from any thread."""
        loop = asyncio.get_running_loop()

        def beat(details: tuple[object, ...]) -> None:
            heartbeat(details)
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(self._listen)

        return beat

    def _listen(self) -> None:
        if not self._silence_s:
            return
        if self._call_off_silence is not None:
            self._call_off_silence()
        if self._alarm is None:
            timer = asyncio.get_running_loop().call_later(self._silence_s, self._expire_silence)
            self._call_off_silence = timer.cancel
        else:
            self._call_off_silence = self._alarm(self._silence_s, self._expire_silence)

    def _expire_silence(self) -> None:
        if not self.limit.expired():
            self.is_silent = True
            self._expire()

    def _expire(self) -> None:
        self.limit.reschedule(asyncio.get_running_loop().time())


def _begin(timeout: _Timeout, begin: Callable[[], None]) -> None:
    timeout.begin()
    begin()


class Raised(Exception):
    """The exception of a plain function."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _outcome_of(call: Callable[[], Any]) -> _Outcome:
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
