"""`workflow.step`: runs any function in the engine's process and records its result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from inspect import iscoroutine
from types import FunctionType
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack, overload

from perdure.authoring.activity_call import ActivityCall
from perdure.authoring.calling import attempt_here, run_as
from perdure.authoring.options import compiled
from perdure.authoring.retry import Retry
from perdure.errors import UsageError
from perdure.model.duration import Duration
from perdure.model.inline import InlineStep
from perdure.model.limits import fault_of_id
from perdure.model.options import ActivityOptions, RetryPolicy
from perdure.model.runtime import current, misuse
from perdure.model.signature import returns_of

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

_TIMEOUT_US: Final = 10_000_000
_ONCE: Final = RetryPolicy(maximum_attempts=1)
_PLAIN: Final = RetryPolicy()


class StepCall(ActivityCall[R]):
    """The awaitable that `workflow.step` returns in workflow code."""

    __slots__ = ()

    @property
    def called(self) -> str:  # type: ignore[override]
        """The name of the step, for messages."""
        return f"the call of the step {self._activity.name!r}"


# Calls without arguments first: type checkers ask for those that have defaults elsewhere.
@overload
def step(
    name: str,
    fn: Callable[[], Coroutine[Any, Any, R]],
    /,
    *,
    retry: Retry | None = None,
    timeout: Duration = "10s",
    at_most_once: bool = False,
    reconcile: Callable[[], R | Awaitable[R]] | None = None,
    summary: str = "",
) -> Coroutine[object, None, R]: ...
@overload
def step(
    name: str,
    fn: Callable[[], R],
    /,
    *,
    retry: Retry | None = None,
    timeout: Duration = "10s",
    at_most_once: bool = False,
    reconcile: Callable[[], R | Awaitable[R]] | None = None,
    summary: str = "",
) -> Coroutine[object, None, R]: ...
@overload
def step(
    name: str,
    fn: Callable[[Unpack[Ts]], Coroutine[Any, Any, R]],
    /,
    *args: *Ts,
    retry: Retry | None = None,
    timeout: Duration = "10s",
    at_most_once: bool = False,
    reconcile: Callable[[], R | Awaitable[R]] | None = None,
    summary: str = "",
) -> Coroutine[object, None, R]: ...
@overload
def step(
    name: str,
    fn: Callable[[Unpack[Ts]], R],
    /,
    *args: *Ts,
    retry: Retry | None = None,
    timeout: Duration = "10s",
    at_most_once: bool = False,
    reconcile: Callable[[], R | Awaitable[R]] | None = None,
    summary: str = "",
) -> Coroutine[object, None, R]: ...
def step(  # type: ignore[misc]
    name: str,
    fn: Any,
    /,
    *args: Any,
    retry: Retry | None = None,
    timeout: Duration = "10s",
    at_most_once: bool = False,
    reconcile: Callable[[], Any] | None = None,
    summary: str = "",
) -> Coroutine[object, None, Any]:
    """Run a function in the engine's process, and record its result; it needs no decorator.

    `receipt = await workflow.step("charge", charge, order)`. The function runs beside the workflow,
    so it may read the clock or call a server, which workflow code must not. It must not change the
    state of the workflow: on replay the function does not run, and its recorded result is used. If
    the process crashes meanwhile, the workflow is replayed up to the call, and the function is run
    again.

    A step is identified by its name and the number of times that the run has used that name.
    Outside a workflow the function is simply called.

    Args:
        name: for the history, 1 to 255 bytes; the same one may be used many times.
        fn: sync (it runs in a thread) or async. Its result is decoded by its return annotation, if
            it has one.
        args: passed to `fn` unchanged; they are not recorded.
        retry: by default it is retried until it succeeds; with `at_most_once`, never.
        timeout: the limit on one attempt.
        at_most_once: if an attempt was interrupted, do not run the function again.
        reconcile: looks up the outcome of an interrupted attempt; takes no arguments. It returns
            the result, or raises `errors.NotDone`: then the function is run again. Without it, an
            interrupted step fails.
        summary: one line for people, at most 1 KiB.

    Raises:
        errors.ActivityFailed: it raised, and its retries ended; a `Failure` of yours is raised as
            itself. ActivityTimedOut: it took too long.
        errors.OutcomeUnknown: with `at_most_once`, it was interrupted.
        UsageError: a query, a view or a condition calls it, or an argument is invalid.
    """
    if fault := _fault_of(name, fn, reconcile, at_most_once=at_most_once):
        raise misuse(f"workflow.step: {fault}.")
    call: Callable[[], Any] = partial(fn, *args) if args else fn
    runtime = current()
    if runtime is None:
        return run_as(attempt_here(f"step {name!r}", "Call its function."), name, call, (), {})
    if runtime.is_read_only:
        raise misuse(
            f"the step {name!r} is called in a query, a view or a condition. "
            "Those may only read: call it in the run or in a signal handler."
        )
    uses = runtime.uses
    uses[name] = use = uses.get(name, 0) + 1
    options = _options(name, retry, timeout, at_most_once=at_most_once, use=use, summary=summary)
    try:
        found = InlineStep(name, call, fn, returns=returns_of(fn), reconcile=reconcile)
    except UsageError as error:
        raise runtime.misuse(error) from None
    return StepCall[Any](found, runtime, options, (), {})


def _fault_of(name: object, fn: object, reconcile: object, *, at_most_once: bool) -> str:
    if fault := fault_of_id(name, "name of a step"):
        return fault
    if isinstance(getattr(fn, "defaults", None), ActivityOptions):
        return f"step {name!r} takes a function, and {fn!r} is more: await its call, or pass its `fn`"
    if not callable(fn):
        if iscoroutine(fn):
            fn.close()
            return f"step {name!r} takes a function, not the coroutine that calling it returns"
        return f"step {name!r} takes a function, not {fn!r}"
    if reconcile is None:
        return ""
    if not callable(reconcile):
        return f"reconcile of step {name!r} must be a function, not {reconcile!r}"
    if not at_most_once:
        return f"step {name!r} has reconcile, which needs at_most_once=True"
    if _needs_arguments(reconcile):
        return f"reconcile of step {name!r} takes no arguments: give a closure, or functools.partial"
    return ""


def _needs_arguments(fn: object) -> bool:
    """Of a plain function; `inspect.signature` would cost each such step ten microseconds."""
    return isinstance(fn, FunctionType) and fn.__code__.co_argcount > len(fn.__defaults__ or ())


def _options(
    name: str, retry: Retry | None, timeout: Duration, *, at_most_once: bool, use: int, summary: str
) -> ActivityOptions:
    policy = _ONCE if at_most_once else _PLAIN
    options = ActivityOptions("", _TIMEOUT_US, policy, use=use, at_most_once=at_most_once)
    if retry is None and timeout == "10s" and not summary:  # the usual call
        return options
    given: dict[str, Any] = {"timeout": timeout, "summary": summary}
    if retry is not None:
        given["retry"] = retry
    try:
        return compiled(given, options)
    except UsageError as error:
        raise misuse(f"workflow.step: step {name!r}: {error}") from None
