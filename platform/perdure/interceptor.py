"""Interceptors: code of yours around requests, commands, workflow code and attempts.

    class Timed(Interceptor):
        async def attempt(self, task, run):
            began = monotonic()
            report = await run(task)
            seconds.labels(task.name).observe(monotonic() - began)
            return report

    Platform(registry, "sqlite:///app.db", interceptors=[Timed()])

There are four seams, each a method of `Interceptor`:

    client    request             a request leaves a client               on the client's loop
    engine    handle              a command is handled                    on the engine's thread
    workflow  workflow, outbound  code is called; code asks of its run    in the run, also on replay
    worker    attempt             one try of an activity or a local one   on the side loop

The interceptors of a list wrap each other: the first is the outermost. Those installed in the whole
process come before them.

Isolation: an exception of an interceptor at the client, the engine or the worker is logged, and
what it wraps is done without it. An exception that comes from what it wraps cannot be hidden. In
workflow code an interceptor is workflow code: its exception fails the run, and it must do the same
again on replay.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from msgspec import Struct

from perdure.errors import ClientError, UsageError
from perdure.model.commands import AttemptReport, Command, CompleteActivity, DeferActivity, FailActivity
from perdure.model.runtime import WorkflowRuntime

if TYPE_CHECKING:
    from perdure.model.commands import AnyCommand, Request
    from perdure.model.replies import AnyReply
    from perdure.model.tasks import Task

A = TypeVar("A")
R = TypeVar("R")
Seam = Literal["request", "handle", "workflow", "outbound", "attempt"]

_logger: Final = logging.getLogger("perdure.interceptor")
_failures: Final[Counter[tuple[str, Seam]]] = Counter()
"""Number of exceptions by interceptor type and seam."""


@dataclass(frozen=True, slots=True)
class WorkflowCall:
    """A call of workflow code.

    Attributes:
        kind: the main coroutine, or the handler of a signal or an update.
        name: of the workflow type, or of the signal.
        args: positional arguments, decoded, without the instance.
        kwargs: keyword arguments.
    """

    kind: Literal["run", "signal", "update"]
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Outbound(WorkflowRuntime):
    """A runtime that passes on all that workflow code asks; override what you want to see or
    change.

    Args:
        inner: to which it passes it on.
    """

    def __init__(self, inner: WorkflowRuntime) -> None:
        self.inner = inner

    @property
    def is_read_only(self) -> bool:
        """See `WorkflowRuntime`."""
        return self.inner.is_read_only

    def __getattr__(self, name: str) -> Any:
        """Data of the runtime: `WorkflowRuntime` declares it and keeps none itself."""
        if name == "inner":  # of a subclass that has not called __init__
            raise AttributeError(name)
        return getattr(self.inner, name)


def _passed_on(method: Callable[..., Any]) -> Callable[..., Any]:
    name = method.__name__

    @wraps(method)
    def passed_on(self: Outbound, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.inner, name)(*args, **kwargs)

    return passed_on


# Made, not written: a method that `WorkflowRuntime` gains is passed on, too.
for _name, _method in vars(WorkflowRuntime).items():
    if isinstance(_method, FunctionType):
        setattr(Outbound, _name, _passed_on(_method))


class Interceptor:
    """Override the seams that you need; the others cost nothing.

    Each method calls what it wraps once, perhaps with another argument, and returns what that
    returned, or something in place of it. One object serves all threads of the process.
    """

    async def request(self, command: Request, send: Callable[[Request], Awaitable[AnyReply]]) -> AnyReply:
        """Wrap a request of a client: a start, signal, query, wait, cancellation or termination.

        Args:
            command: what is asked.
            send: carries it to the engine and returns the answer.

        Raises:
            ClientError: the request is not to be sent; raised to the caller. So is `UsageError`.
        """
        return await send(command)

    def handle(self, command: AnyCommand, handle: Callable[[AnyCommand], None]) -> None:
        """Wrap the handling of a command by the engine. A command of a batch that is aborted is
        handled again.

        Args:
            command: a request, a report of a worker, or a timer that is due.
            handle: decides it, records its events and runs the workflow code that they wake.
        """
        handle(command)

    async def workflow(self, call: WorkflowCall, proceed: Callable[[WorkflowCall], Awaitable[Any]]) -> Any:
        """Wrap a call of workflow code. Runs in the run, again on every replay.

        Args:
            call: what is called.
            proceed: calls it and returns what it returned.
        """
        return await proceed(call)

    def outbound(self, runtime: WorkflowRuntime) -> WorkflowRuntime:
        """Wrap what workflow code asks of its run. Called once for a run, before its code begins,
        and again on every replay.

        Args:
            runtime: of the run.

        Returns:
            It, or an `Outbound` of it.
        """
        return runtime

    async def attempt(self, task: Task, run: Callable[[Task], Awaitable[AttemptReport]]) -> AttemptReport:
        """Wrap one attempt of an activity. What the activity raised is in the report.

        Args:
            task: what is to be done.
            run: runs the attempt to its end and returns its report.

        Raises:
            asyncio.CancelledError: the attempt was asked to stop.
        """
        return await run(task)


# ---- of the whole process

_installed: tuple[Interceptor, ...] = ()


def install(interceptor: Interceptor) -> None:
    """Wrap every client, engine and worker of this process, also those that exist."""
    global _installed
    _installed = (*_installed, interceptor)


def remove(interceptor: Interceptor) -> None:
    """Undo `install`. Does nothing when it is not installed."""
    global _installed
    _installed = tuple(each for each in _installed if each is not interceptor)


def at(seam: Seam, own: Sequence[Interceptor]) -> tuple[Interceptor, ...]:
    """The interceptors that override a seam, outermost first.

    Args:
        seam: which.
        own: of one client, engine or worker.
    """
    if not own and not _installed:
        return ()
    return tuple(
        each for each in (*_installed, *own) if getattr(type(each), seam) is not getattr(Interceptor, seam)
    )


# ---- around what the seams wrap


def around_request(
    interceptors: Sequence[Interceptor], send: Callable[[Request], Awaitable[AnyReply]]
) -> Callable[[Request], Awaitable[AnyReply]]:
    """Send a request through interceptors."""
    for each in reversed(interceptors):
        send = partial(_guarded_async, each.request, "request", send)
    return send


def around_attempt(
    interceptors: Sequence[Interceptor], run: Callable[[Task], Awaitable[AttemptReport]]
) -> Callable[[Task], Awaitable[AttemptReport]]:
    """Run an attempt through interceptors."""
    for each in reversed(interceptors):
        run = partial(_guarded_async, each.attempt, "attempt", run)
    return run


def around_handle(
    interceptors: Sequence[Interceptor], handle: Callable[[AnyCommand], None]
) -> Callable[[AnyCommand], None]:
    """Handle commands through interceptors."""
    for each in reversed(interceptors):
        handle = partial(_guarded, each.handle, handle)
    return handle


def around_workflow(
    interceptors: Sequence[Interceptor], call: Callable[[WorkflowCall], Awaitable[Any]]
) -> Callable[[WorkflowCall], Awaitable[Any]]:
    """Call workflow code through interceptors."""
    for each in reversed(interceptors):
        call = partial(each.workflow, proceed=call)
    return call


def around_runtime(interceptors: Sequence[Interceptor], runtime: WorkflowRuntime) -> WorkflowRuntime:
    """Route workflow code's calls of its runtime through interceptors."""
    for each in reversed(interceptors):
        runtime = each.outbound(runtime)
    return runtime


class _Passed:
    """The next link of an interceptor chain: called once, its outcome is kept.

    Attributes:
        is_called: whether it was.
        result: what the call returned.
        error: what it raised.
    """

    __slots__ = ("_call", "error", "is_called", "result")

    def __init__(self, call: Callable[[Any], Any]) -> None:
        self._call = call
        self.is_called = False
        self.result: Any = None
        self.error: BaseException | None = None

    def __call__(self, argument: Any) -> Any:
        self._begin()
        try:
            self.result = self._call(argument)
        except BaseException as error:
            self.error = error
            raise
        return self.result

    def _begin(self) -> None:
        if self.is_called:
            raise UsageError("an interceptor called what it wraps twice; it may do so once")
        self.is_called = True


class _PassedAsync(_Passed):
    """The same for a coroutine function, which an interceptor may leave while it runs
    (`asyncio.shield`).
    """

    __slots__ = ("_has_ended",)

    def __init__(self, call: Callable[[Any], Any]) -> None:
        super().__init__(call)
        self._has_ended = asyncio.Event()

    async def __call__(self, argument: Any) -> Any:
        self._begin()
        try:
            self.result = await self._call(argument)
        except BaseException as error:
            self.error = error
            raise
        finally:
            self._has_ended.set()
        return self.result

    async def outcome(self) -> Any:
        """The result of the call, once it has ended.

        Raises:
            BaseException: what the call raised.
        """
        await self._has_ended.wait()
        if self.error is not None:
            raise self.error
        return self.result


def _guarded(method: Callable[..., None], handle: Callable[[AnyCommand], None], command: AnyCommand) -> None:
    passed = _Passed(partial(_handle_checked, handle))
    try:
        method(command, passed)
    except BaseException as error:
        if error is passed.error:
            raise
        _log(method, "handle", error)
    if passed.error is not None:
        raise passed.error
    if not passed.is_called:
        handle(command)


def _handle_checked(handle: Callable[[AnyCommand], None], command: AnyCommand) -> None:
    passed_on: object = command
    if not isinstance(passed_on, Command):
        raise UsageError(f"an interceptor passed on {type(passed_on).__name__} instead of a command")
    handle(command)


_RETURNED: Final[Mapping[Seam, tuple[type, ...]]] = {
    "request": (Struct,),
    "attempt": (CompleteActivity, FailActivity, DeferActivity),
}
"""What a method of the seam may return."""


def _checked(result: Any, seam: Seam) -> Any:
    if result is not None and not isinstance(result, _RETURNED[seam]):
        raise UsageError(f"an interceptor returned {type(result).__name__}")
    return result


async def _guarded_async(
    method: Callable[..., Awaitable[R]], seam: Seam, call: Callable[[A], Awaitable[R]], argument: A
) -> R:
    passed = _PassedAsync(call)
    result: Any = None
    try:
        result = _checked(await method(argument, passed), seam)
    except GeneratorExit:
        raise
    except asyncio.CancelledError as error:
        me = asyncio.current_task()
        if error is passed.error or me is None or me.cancelling():
            raise
        _log(method, seam, error)  # nobody cancelled this task: the interceptor raised it
        result = None
    except BaseException as error:
        if error is passed.error or (seam == "request" and isinstance(error, (ClientError, UsageError))):
            raise
        if isinstance(passed.error, asyncio.CancelledError):
            raise  # a time limit of the interceptor's has cancelled what it wraps
        _log(method, seam, error)
        result = None
    if not passed.is_called:
        return result if result is not None else await call(argument)
    outcome = await passed.outcome()
    return result if result is not None else outcome  # type: ignore[no-any-return]


def _log(method: Any, seam: Seam, error: BaseException) -> None:
    """Log the 1st, 2nd, 4th, 8th … exception: an interceptor that always raises must not fill the
    log.
    """
    name = type(method.__self__).__qualname__
    _failures[name, seam] += 1
    count = _failures[name, seam]
    if count & (count - 1) == 0:
        message = (
            "interceptor %s raised in `%s`, which was done without it (number %d): change the interceptor"
        )
        _logger.warning(message, name, seam, count, exc_info=error)
