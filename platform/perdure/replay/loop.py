"""The event loop of one run: deterministic, without a clock, a thread or I/O.

Its driver follows one rule: **drain to quiescence after every recorded event**. Set `now`, apply
one outcome (the result of an activity, a timer that fires, or a task for a signal's handler), call
`run()`, take `actions`. So the boundaries of activations need not be recorded: the history alone
decides which outcomes the code sees, and in which order.

The services for workflow code (activities, conditions, random numbers) are in `runtime.py`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Final, cast

from perdure.model.actions import CancelTimer, StartTimer
from perdure.replay import blame, order
from perdure.replay.activation import enter, leave, running_loop
from perdure.replay.conditions import Condition, wake_one
from perdure.replay.deadlines import CLOCK_SURPLUS, LATEST, microseconds
from perdure.replay.futures import Handle, InertFuture, RunFuture, RunTask, TimerHandle
from perdure.replay.pending import Actions, Pending
from perdure.replay.refusing import RefusingLoop
from perdure.replay.spinning import MAX_STEPS, Spinning

if TYPE_CHECKING:
    from perdure.model.runtime import WorkflowRuntime

_NAMES: Final = tuple(f"Task-{number}" for number in range(256))


class RunLoop(RefusingLoop):
    """The event loop of one run: the part of the loop interface that asyncio needs.

    Args:
        run_id: salts the hashes of tasks and futures.
        log: gets asyncio's reports of callbacks that raised and of exceptions that were never
            retrieved; not during a replay.

    Attributes:
        runtime: the services for workflow code.
        now: microseconds since 1970, set before each activation.
        attributes: those of the start, JSON of an object, or empty.
        summary: of the timers that are started now, one line for people.
        actions: requests of the code; the driver takes them after every `run()`.
        timers: the timers that the code waits for.
        context: the context of plain functions, and of tasks that are not started by a task; it is
            copied for each.
        conditions: the waiters of `wait_until`, oldest first.
        replaying: whether recorded events are being replayed.
        exit: a `KeyboardInterrupt` or `SystemExit` that was not raised in a task: it ends the run,
            as asyncio would end the program.
        is_spoilt: a query, view or condition woke a future, and its waiters are lost: evict the
            run, so that a replay restores them.
    """

    __slots__ = (
        "__weakref__",
        "_hashes",
        "_inert_awaits",
        "_log",
        "_prune_at",
        "_ready",
        "_salt",
        "_task_names",
        "_tasks",
        "actions",
        "attributes",
        "conditions",
        "context",
        "exit",
        "is_spoilt",
        "now",
        "replaying",
        "run_id",
        "runtime",
        "summary",
        "timers",
    )

    runtime: WorkflowRuntime

    def __init__(self, run_id: str, log: Callable[[dict[str, Any]], None] | None = None) -> None:
        self.run_id = run_id
        self.now = 0
        self.attributes, self.summary = b"", ""
        self.actions = Actions()
        self.timers: Pending[TimerHandle] = Pending(self.actions, StartTimer, CancelTimer)
        self.replaying = False
        self.is_read_only = self.is_evicted = self.is_spoilt = False
        self.fault: BaseException | None = None
        self.exit: BaseException | None = None
        self._log = log
        self.context = Context()
        self._ready: deque[Handle] = deque()
        self.conditions: list[Condition] = []
        # strong references: the garbage collector must not end a task that the code has dropped
        self._tasks: list[RunTask] = []
        self._prune_at = 16
        self._salt = order.hash_salt(run_id)
        self._hashes = 0
        self._task_names = 0
        self._inert_awaits = 0

    def run(self) -> None:
        """Run one activation: call everything that is ready, then evaluate the conditions, until
        nothing changes.

        Raises:
            Spinning: the activation does not end.
            BaseException: `fault`, if the guard has set one.
        """
        entered = enter(self)
        try:
            steps = self._drain(0)
            while self.conditions and wake_one(self.conditions, self):
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
                # asyncio ends the program. A task that raised it holds it: then its run fails where
                # the task is awaited.
                if not any(task.holds(error) for task in self._tasks):
                    self.exit = self.exit or error
            except BaseException as error:  # noqa: BLE001 - as asyncio does
                self.call_exception_handler(
                    {"message": "exception in callback", "callback": callback, "exception": error}
                )
            if steps > MAX_STEPS:
                raise self.fault or Spinning(
                    f"run {self.run_id}: more than {MAX_STEPS:,} steps without waiting for anything recorded"
                )
        return steps

    def fire_timer(self, number: int) -> bool:
        """Make the timer's callback ready; return whether the timer exists."""
        handle = self.timers.waiting.pop(number, None)
        if handle is None:
            return False
        handle.number = 0
        self._ready.append(handle)
        return True

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        """As `asyncio.AbstractEventLoop.call_soon`."""
        if self.is_read_only:
            self.is_spoilt = True
            self.refuse_if_read_only("wake something")
        handle = Handle(callback, args, context if context is not None else self._current_context())
        if not self.is_evicted:
            self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        """A durable timer, `delay` seconds from now; microseconds are rounded up."""
        deadline = min(self.now + microseconds(delay), LATEST)
        return self.start_timer(deadline, self.time() + delay, callback, args, context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        """A durable timer at a loop time in seconds; microseconds are rounded up, see
        `deadlines.py`.
        """
        return self.start_timer(microseconds(when, surplus=CLOCK_SURPLUS), when, callback, args, context)

    def start_timer(
        self,
        deadline: int,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
    ) -> TimerHandle:
        """A durable timer.

        Args:
            deadline: when it fires, microseconds since 1970; one in the past fires now.
            when: the loop time it was asked for, seconds.
            callback: called when it fires.
            args: of the callback.
            context: of the callback; None: the current one.
        """
        self.refuse_if_read_only("start a timer")
        if context is None:
            context = self._current_context()
        timers = self.timers
        if self.is_evicted:
            return TimerHandle(callback, args, context, timers, number=0, when=when)
        timers.count = number = timers.count + 1
        self.actions.items.append(StartTimer(number, max(deadline, self.now), self.summary))
        timers.waiting[number] = handle = TimerHandle(
            callback, args, context, timers, number=number, when=when
        )
        return handle

    def create_future(self) -> RunFuture:
        """A future with a stable hash."""
        return (InertFuture if self.is_evicted else RunFuture)(self, self.next_hash())

    def next_hash(self) -> int:
        """The hash of the next task or future: the same in every process."""
        self._hashes = count = self._hashes + 1
        return self._salt + count

    def create_task(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: object = None,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Task[Any]:
        """A task with a stable hash. Its default name is numbered within the run."""
        if self.is_evicted or self.is_read_only:
            coro.close()
            self.refuse_if_read_only("start a task")
            return cast("asyncio.Task[Any]", InertFuture(self, 0))
        self._task_names = named = self._task_names + 1
        if name is None:
            name = _NAMES[named] if named < len(_NAMES) else f"Task-{named}"
        if context is None and running_loop() is not self:
            context = self.context.copy()
        task = RunTask(coro, self, self.next_hash(), str(name), context, **options)
        self._tasks.append(task)
        if len(self._tasks) > self._prune_at:
            self._tasks = self.live_tasks()
            self._prune_at = 2 * len(self._tasks) + 16
        return task

    def live_tasks(self) -> list[RunTask]:
        """The tasks that are not done, oldest first."""
        return [task for task in self._tasks if not task.done()]

    def _current_context(self) -> Context:
        return copy_context() if running_loop() is self else self.context.copy()

    def time(self) -> float:
        """The time of the event that is being handled, seconds since 1970."""
        return self.now / 1e6

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Pass the report to `log`, unless it was passed before."""
        if self._log is not None and not self.is_evicted and not self.replaying:
            self._log(context)

    default_exception_handler = call_exception_handler

    def release(self) -> list[RunTask]:
        """Mark the loop as evicted, which makes it inert, and return the tasks that are not done,
        for `eviction`.
        """
        self.is_evicted = True
        tasks = self.live_tasks()
        for handle in self.timers.waiting.values():
            Handle.cancel(handle)
        for container in (self._ready, self.actions, self.conditions, self._tasks, self.timers.waiting):
            container.clear()
        return tasks

    def count_inert_await(self) -> int:
        """Count the awaits of evicted code, including this one, to detect code that never ends."""
        self._inert_awaits += 1
        return self._inert_awaits


blame.ENTRY_POINTS.update(method.__code__ for method in (RunLoop.run, RunLoop._drain))  # noqa: SLF001 - our own class
order.install(RunLoop.live_tasks)
