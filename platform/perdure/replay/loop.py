"""The event loop of one run: deterministic, without a clock, a thread or I/O.

Whoever drives it follows one rule: **drain to quiescence after every recorded event**. Set `now`, put one outcome in place
(`resolve_activity`, `reject_activity`, `fire_timer`, or a task for a signal's handler), call `run()`, take `actions`. Then the
boundaries of activations need not be recorded: history alone decides what the code sees, and in which order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from random import Random
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

from perdure.errors import UsageError
from perdure.model.actions import CancelActivity, CancelTimer, ProduceRecord, ScheduleActivity, StartTimer
from perdure.model.dead_letters import RecordHeader
from perdure.replay import blame, order
from perdure.replay.activation import enter, leave, running_loop
from perdure.replay.conditions import Condition
from perdure.replay.deadlines import CLOCK_SURPLUS, LATEST, microseconds
from perdure.replay.futures import ActivityFuture, Handle, InertFuture, RunFuture, RunTask, TimerHandle, reject
from perdure.replay.refusing import RefusingLoop
from perdure.replay.run_random import RunRandom
from perdure.replay.spinning import MAX_STEPS, Spinning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perdure.activity import Activity
    from perdure.model.actions import AnyAction
    from perdure.model.options import ActivityOptions
    from perdure.model.payloads import AvroSchema, Payloads
    from perdure.workflow import Info

_NAMES: Final = tuple(f"Task-{number}" for number in range(256))


class RunLoop(RefusingLoop):
    """The running loop of one run; what asyncio needs of a loop, and what the engine needs of a run.

    Args:
        run_id: salts the hashes of tasks and futures.
        seed: of the run's stream of random numbers.
        payloads: encodes the arguments of activities.
        info: facts about the run, asked for when the code asks.
        log: gets what asyncio reports of callbacks that raised and of exceptions that nobody retrieved; not while replaying.

    Attributes:
        now: microseconds since 1970, set before each activation.
        actions: what the code wanted in this activation; the driver takes them (and clears the list) after every `run()`.
        activities, timers, records: the number of the last one; each counts from 1.
        pending_activities: those whose outcome is awaited, by number.
        replaying: recorded events are being repeated.
        exit: a `KeyboardInterrupt` or `SystemExit` that no task holds: it ends the run, as asyncio would end the program.
        fault: what the run is suspended for when the activation ends, whatever the code makes of the exception.
        is_evicted: forgotten; its code is not run again.
        is_spoilt: an evaluation woke a future, and its waiters are lost: evict the run, a replay brings them back.
    """

    __slots__ = (
        "__weakref__", "_conditions", "_context", "_hashes", "_inert_awaits", "_info", "_log", "_payloads", "_prune_at", "_random",
        "_ready", "_salt", "_seed", "_task_names", "_tasks", "_timer_handles", "actions", "activities", "exit",
        "is_read_only", "is_spoilt", "now", "pending_activities", "records", "replaying", "run_id", "timers",
    )  # fmt: skip

    def __init__(
        self,
        run_id: str,
        seed: int,
        payloads: Payloads,
        info: Callable[[], Info],
        log: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.run_id = run_id
        self.now = 0
        self.actions: list[AnyAction] = []
        self.replaying = False
        self.is_read_only = self.is_evicted = self.is_spoilt = False
        self.activities = self.timers = self.records = 0
        self.pending_activities: dict[int, tuple[Activity[..., Any], ActivityFuture]] = {}
        self.fault: BaseException | None = None
        self.exit: BaseException | None = None
        self._seed = seed
        self._random: Random | None = None
        self._payloads = payloads
        self._info = info
        self._log = log
        self._context = Context()
        self._ready: deque[Handle] = deque()
        self._timer_handles: dict[int, TimerHandle] = {}
        self._conditions: list[Condition] = []
        self._tasks: list[RunTask] = []  # strong: a task that nobody holds must not end when the garbage collector pleases
        self._prune_at = 16
        self._salt = order.hash_salt(run_id)
        self._hashes = 0
        self._task_names = 0
        self._inert_awaits = 0

    def run(self) -> None:
        """One activation: everything that is ready, then the conditions, until nothing moves.

        Raises:
            Spinning: it does not come to an end.
            BaseException: `fault`, when the guard has set one.
        """
        entered = enter(self)
        try:
            steps = self._drain(0)
            while self._conditions and self._wake_one():
                steps = self._drain(steps)
        finally:
            leave(entered)
        if self.fault is not None:
            raise self.fault

    def _drain(self, steps: int) -> int:
        ready = self._ready
        while ready:
            handle = ready.popleft()
            callback = handle.callback
            if callback is None:
                continue
            steps += 1
            try:
                handle.context.run(callback, *handle.args)
            except (KeyboardInterrupt, SystemExit) as error:
                # asyncio ends the program. A task that raised it holds it: then its run fails where the task is awaited.
                if not any(task.done() and not task.cancelled() and task.exception() is error for task in self._tasks):
                    self.exit = self.exit or error
            except BaseException as error:  # noqa: BLE001 - as asyncio does
                self.call_exception_handler({"message": "exception in callback", "callback": callback, "exception": error})
            if steps > MAX_STEPS:
                raise self.fault or Spinning(
                    f"run {self.run_id}: more than {MAX_STEPS:,} steps without waiting for anything recorded"
                )
        return steps

    def _wake_one(self) -> bool:
        """Wake the oldest whose condition holds: only one, so that it still holds when the code resumes."""
        for condition in self._conditions:
            if not condition.future.done() and condition.is_met(self):
                break
        else:
            return False
        self._conditions = [c for c in self._conditions if not c.future.done()]
        return True

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a plain function of the author's (a workflow's `__init__`) as workflow code.

        Raises:
            BaseException: what the function raised; `fault`, when one was set, whatever the function made of it.
        """
        entered = enter(self)
        try:
            result = self._context.copy().run(function, *args, **kwargs)
        except Exception:
            if self.fault is not None:
                raise self.fault from None
            raise
        finally:
            leave(entered)
        if self.fault is not None:
            raise self.fault
        return result

    def evaluate(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a plain function of the author's (a query, a view, a validator) as workflow code that may only read.

        Raises:
            UsageError: it did what the guard forbids, or tried to schedule something.
        """
        read_only, fault = self.is_read_only, self.fault
        self.is_read_only = True
        self.fault = None
        try:
            return self.call(function, *args, **kwargs)
        except BaseException as error:
            if error is cast("BaseException | None", self.fault) and not isinstance(error, UsageError):
                raise UsageError(str(error)) from error
            raise
        finally:
            self.is_read_only, self.fault = read_only, fault

    def resolve_activity(self, number: int, value: Any) -> bool:
        """Put the activity's result in place; whether anybody waits for it."""
        pending = self.pending_activities.pop(number, None)
        if pending is not None:
            pending[1].set_result(value)
        return pending is not None

    def reject_activity(self, number: int, error: BaseException) -> bool:
        """Put the activity's failure in place; whether anybody waits for it."""
        pending = self.pending_activities.pop(number, None)
        if pending is not None:
            reject(pending[1], error)
        return pending is not None

    def fire_timer(self, number: int) -> bool:
        """Make the timer's callback ready; whether anybody waits for it."""
        handle = self._timer_handles.pop(number, None)
        if handle is None:
            return False
        handle.number = 0
        self._ready.append(handle)
        return True

    def schedule_activity(
        self, activity: Activity[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], options: ActivityOptions
    ) -> RunFuture:
        """Schedule it now; the future of its result. See `WorkflowRuntime`."""
        self._refuse_if_read_only("schedule an activity")
        if self.is_evicted:
            return InertFuture(self, 0)
        try:
            payload = self._payloads.encode_arguments(activity.fn, args, kwargs, what=f"activity {activity.name!r}")
        except UsageError as error:
            raise self.misuse(error) from None
        self.activities = number = self.activities + 1
        self.actions.append(ScheduleActivity(number, activity.name, payload, options))
        self._hashes = count = self._hashes + 1
        future = ActivityFuture(self, self._salt + count)
        future.number = number
        self.pending_activities[number] = (activity, future)
        return future

    async def wait_until(self, condition: Callable[[], Any], timeout_us: int | None) -> Any:
        """What the condition returned once truthy, its last falsy value when the time is up. See `WorkflowRuntime`."""
        self._refuse_if_read_only("wait")
        waiter = Condition(condition, copy_context(), self.create_future())
        value = waiter.evaluate(self)
        if value or (timeout_us is not None and timeout_us <= 0):
            return value
        self._conditions.append(waiter)
        timer: TimerHandle | None = None
        if timeout_us is not None:
            timer = self._start_timer(min(self.now + timeout_us, LATEST), 0.0, waiter.give_up, (), waiter.context)
        try:
            return await waiter.future
        finally:
            waiter.future.cancel()  # nobody waits any more, however it ended
            if timer is not None:
                timer.cancel()

    def produce(self, topic: str, key: bytes | None, value: object, headers: list[RecordHeader], avro: AvroSchema | None) -> None:
        """Have a record written. See `WorkflowRuntime`."""
        self._refuse_if_read_only("produce a record")
        if not self.is_evicted:
            try:
                data, content_type = self._payloads.encode_record(value, avro, what=f"the record for topic {topic!r}")
            except UsageError as error:
                raise self.misuse(error) from None
            typed = (*headers, RecordHeader("content-type", content_type)) if content_type else tuple(headers)
            self.records = number = self.records + 1
            self.actions.append(ProduceRecord(number, topic, key, data, typed))

    def info(self) -> Info:
        """Facts about the run."""
        return self._info()

    def now_us(self) -> int:
        """The time of the event that is being handled, microseconds since 1970."""
        return self.now

    def random(self) -> Random:
        """The run's own stream of random numbers."""
        self._refuse_if_read_only("draw a random number")
        if self._random is None:
            self._random = RunRandom(self._refuse_if_read_only, self._seed)  # the same again on replay
        return self._random

    def uuid4(self) -> UUID:
        """From the run's own stream of random numbers."""
        return UUID(int=self.random().getrandbits(128), version=4)

    def is_replaying(self) -> bool:
        """Whether recorded events are being repeated."""
        return self.replaying

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Handle:
        """As `asyncio.AbstractEventLoop.call_soon`."""
        if self.is_read_only:
            self.is_spoilt = True
            self._refuse_if_read_only("wake something")
        handle = Handle(callback, args, context if context is not None else self._current_context())
        if not self.is_evicted:
            self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        """A durable timer, `delay` seconds from now; microseconds are rounded up."""
        deadline = min(self.now + microseconds(delay), LATEST)
        return self._start_timer(deadline, self.time() + delay, callback, args, context)

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None) -> TimerHandle:
        """A durable timer at a loop time in seconds; microseconds are rounded up, see `deadlines.py`."""
        return self._start_timer(microseconds(when, surplus=CLOCK_SURPLUS), when, callback, args, context)

    def _start_timer(
        self, deadline: int, when: float, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> TimerHandle:
        self._refuse_if_read_only("start a timer")
        if context is None:
            context = self._current_context()
        if self.is_evicted:
            return TimerHandle(callback, args, context, self, number=0, when=when)
        self.timers = number = self.timers + 1
        self.actions.append(StartTimer(number, max(deadline, self.now)))
        self._timer_handles[number] = handle = TimerHandle(callback, args, context, self, number=number, when=when)
        return handle

    def timer_cancelled(self, number: int) -> None:
        """A timer's handle was cancelled; one that was started in this activation leaves no action, but keeps its number."""
        if self._timer_handles.pop(number, None) is not None and not self._withdraw(StartTimer, number):
            self.actions.append(CancelTimer(number))

    def activity_cancelled(self, number: int) -> None:
        """The wait for an activity was cancelled; one that was scheduled in this activation leaves no action, but keeps its number."""
        if self.pending_activities.pop(number, None) is not None and not self._withdraw(ScheduleActivity, number):
            self.actions.append(CancelActivity(number))

    def _withdraw(self, kind: type[ScheduleActivity | StartTimer], number: int) -> bool:
        actions = self.actions
        for index in range(len(actions) - 1, -1, -1):
            action = actions[index]
            if isinstance(action, kind) and action.number == number:
                del actions[index]
                return True
        return False

    def create_future(self) -> RunFuture:
        """A future with a stable hash."""
        self._hashes = count = self._hashes + 1
        return (InertFuture if self.is_evicted else RunFuture)(self, self._salt + count)

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: object = None, context: Context | None = None, **options: Any
    ) -> asyncio.Task[Any]:
        """A task with a stable hash and, unless it is given one, a name that counts from the run's first task."""
        if self.is_evicted or self.is_read_only:
            coro.close()
            self._refuse_if_read_only("start a task")
            return cast("asyncio.Task[Any]", InertFuture(self, 0))
        self._hashes = count = self._hashes + 1
        self._task_names = named = self._task_names + 1
        if name is None:
            name = _NAMES[named] if named < len(_NAMES) else f"Task-{named}"
        if context is None and running_loop() is not self:
            context = self._context.copy()
        task = RunTask(coro, self, self._salt + count, str(name), context, **options)
        self._tasks.append(task)
        if len(self._tasks) > self._prune_at:
            self._tasks = self.live_tasks()
            self._prune_at = 2 * len(self._tasks) + 16
        return task

    def live_tasks(self) -> list[RunTask]:
        """The tasks that are not done, oldest first."""
        return [task for task in self._tasks if not task.done()]

    def _current_context(self) -> Context:
        return copy_context() if running_loop() is self else self._context.copy()

    def time(self) -> float:
        """The time of the event that is being handled, seconds since 1970."""
        return self.now / 1e6

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Goes to `log`, unless it has been there before."""
        if self._log is not None and not self.is_evicted and not self.replaying:
            self._log(context)

    default_exception_handler = call_exception_handler

    def release(self) -> tuple[list[RunTask], list[ActivityFuture]]:
        """Be evicted: from now on inert. The tasks that are not done and the futures of activities, which only `eviction` needs."""
        self.is_evicted = True
        tasks, futures = self.live_tasks(), [future for _, future in self.pending_activities.values()]
        for handle in self._timer_handles.values():
            Handle.cancel(handle)
        for container in (self._ready, self.actions, self._conditions, self._tasks, self._timer_handles, self.pending_activities):
            container.clear()
        return tasks, futures

    def count_inert_await(self) -> int:
        """How often evicted code has awaited something, this time included."""
        self._inert_awaits += 1
        return self._inert_awaits


blame.ENTRY_POINTS.update(method.__code__ for method in (RunLoop.run, RunLoop.call, RunLoop._drain))  # noqa: SLF001 - our own class
order.install(RunLoop.live_tasks)
