"""Activities: your functions with side effects.

    @activity.defn(timeout="1m", retry=activity.Retry(maximum_interval="5s"))
    async def charge(order_id: str, cents: int) -> str: ...

A call always gives a coroutine, for sync functions too. In workflow code it schedules the activity;
anywhere else it runs the function once, here. `.fn` is the bare function.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
from collections.abc import Callable, Coroutine
from types import FunctionType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    overload,
)
from weakref import WeakKeyDictionary

from perdure.authoring.activity_call import ActivityCall
from perdure.authoring.attempt import (
    Attempt,
    Info,
    Later,
    clients_here,
    complete_later,
    heartbeat,
    idempotency_key,
    info,
    last_heartbeat,
    running,
)
from perdure.authoring.calling import attempt_here, run_as
from perdure.authoring.options import OnCancel, compiled, guarded, valid
from perdure.authoring.provider import PROVIDERS, Provider, provide
from perdure.authoring.retry import Retry
from perdure.authoring.streams import Stream
from perdure.authoring.streams import activity_stream as stream
from perdure.authoring.transaction import TABLE, transactional
from perdure.errors import RetryAfter, UsageError
from perdure.model.duration import Duration
from perdure.model.generics import specialised
from perdure.model.options import ActivityOptions
from perdure.model.runtime import current, misuse
from perdure.model.signature import (
    hints_of,
    positional_counts,
    remember_local_names,
    signature_in_words,
    signature_of,
    takes_self,
    takes_the_same,
)
from perdure.model.source import calling_place, place_of

if TYPE_CHECKING:
    from perdure.client import Client, SyncClient

__all__ = [
    "DEFINED",
    "PROVIDERS",
    "Activity",
    "Attempt",
    "Decorator",
    "Duration",
    "Executor",
    "Info",
    "Later",
    "OnCancel",
    "Provider",
    "Retry",
    "RetryAfter",
    "Stream",
    "client",
    "complete_later",
    "defn",
    "heartbeat",
    "idempotency_key",
    "info",
    "last_heartbeat",
    "named",
    "provide",
    "running",
    "step",
    "stream",
    "sync_client",
    "transaction",
]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
T = TypeVar("T")

Executor = Literal["thread", "process"]
"""Where a plain function runs."""
_MORE: Final = ("on_cancel", "heartbeat_timeout")
DEFINED: Final[list[Activity[..., Any]]] = []
"""Every activity and step of this process, in the order of definition."""


_inherited: Final[WeakKeyDictionary[type[Any], dict[Any, Any]]] = WeakKeyDictionary()
"""The inherited activities of each class, by the activity of the base class."""


class Activity(Generic[P, R]):
    """An activity, as returned by `@activity.defn`.

    Awaited in a workflow: scheduled. Awaited anywhere else: the function, once, here (a sync one in
    a thread). Called inside another activity: UsageError, use `.fn` (an attempt's idempotency key
    belongs to one activity).

    Attributes:
        name: by which workers know it; `Class.method` for methods.
        defaults: its options, compiled; those of `.options(…)` for what that returns.
        is_local: a step.
        is_async: the function is `async def`.
        owner: the class that has the method, else None.
        attribute: the name under which the class has it; empty for functions.
        executor: where the function runs: "thread", or "process" for one that computes.
        keeps_result: the function keeps its result where it takes effect.
        reconcile: looks up the outcome of an attempt that was interrupted; None: nothing can.
        faked_by: what `testing.fake` put in its place, without `self`; read it from `definition`.
        definition: the one that the decorator made, of which this may be a view: with options, or
            without `self`.
        stand_ins: what subclasses serve under its name; fakes go to them, too.
    """

    __wrapped__: Callable[..., Any]

    def __init__(self, fn: Callable[..., Any], name: str, defaults: ActivityOptions) -> None:
        functools.update_wrapper(self, fn)
        self.name = name
        self.defaults = defaults
        self.is_local = defaults.is_step
        self.is_async = inspect.iscoroutinefunction(fn)
        self.owner: type[Any] | None = None
        self.attribute = ""
        self.keeps_result = False
        self.executor: Executor = "thread"
        self.reconcile: Callable[..., Any] | None = None
        self.faked_by: Callable[..., Any] | None = None
        self.definition: Activity[..., Any] = self
        self.stand_ins: list[Activity[..., Any]] = []
        self._fn = fn
        self._instance: object = None
        self._signature = signature_of(fn)
        self._fewest, self._most = positional_counts(self._signature)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[object, None, R]:
        runtime = current()
        if runtime is None:
            return self._run_here(args, kwargs)
        if runtime.is_read_only:
            raise misuse(
                f"the activity {self.name!r} is called in a query, a view or a condition. "
                "Those may only read: call it in the run or in a signal handler."
            )
        if kwargs or not self._fewest <= len(args) <= self._most:
            self._bind(args, kwargs)
        return ActivityCall(self.definition, runtime, self.defaults, args, kwargs)

    def options(
        self,
        *,
        timeout: Duration | None = None,
        retry: Retry | None = None,
        queue: str | None = None,
        idempotency_key: str | None = None,
        summary: str | None = None,
        on_cancel: OnCancel | None = None,
        heartbeat_timeout: Duration | None = None,
    ) -> Activity[P, R]:
        """The same activity with other options, for a call: `charge.options(timeout="3s")(order_id,
        cents)`.

        Args:
            timeout: one attempt.
            retry: when it is tried again.
            queue: of the workers that serve it.
            idempotency_key: instead of the one that the platform makes; the same over all attempts.
            summary: one line for people.
            on_cancel: what happens when the wait for it is cancelled. `"ask"`, the default: it is
                asked to stop, and the code continues without waiting for that. `"wait"`: it is
                asked to stop, and the `CancelledError` is raised when it has ended; a second
                cancellation ends the wait. `"abandon"`: it continues, also when the run has closed;
                only its retries end with the run.
            heartbeat_timeout: the longest time between two calls of `activity.heartbeat`; an
                attempt that is silent for longer has failed. A worker that dies is noticed without
                it: it is for functions that may get stuck.

        Raises:
            UsageError: an option is invalid.
        """
        given = {
            "timeout": timeout,
            "retry": retry,
            "queue": queue,
            "idempotency_key": idempotency_key,
            "summary": summary,
            "on_cancel": on_cancel,
            "heartbeat_timeout": heartbeat_timeout,
        }
        view = self._view()
        try:
            view.defaults = compiled({k: v for k, v in given.items() if v is not None}, self.defaults)
        except UsageError as error:
            raise misuse(f"options of the activity {self.name!r}: {error}") from None
        return view

    @property
    def fn(self) -> Callable[P, Any]:
        """Your function, untouched; of an instance's activity the bound method."""
        return self._fn if self._instance is None else self._fn.__get__(self._instance)

    @property
    def written(self) -> Callable[..., Any]:
        """The function as it is in your file."""
        return self._fn

    @functools.cached_property
    def returns(self) -> Any:
        """The return annotation, resolved; Any where there is none."""
        if self.definition is not self:
            return self.definition.returns
        return hints_of(self._fn).get("return", Any)

    def __set_name__(self, owner: type[Any], attribute: str) -> None:
        if takes_self(self._fn):
            self.owner, self.attribute = owner, attribute

    @overload
    def __get__(
        self: Activity[Concatenate[T, Q], R], instance: None, owner: type[T], /
    ) -> Activity[Q, R]: ...
    @overload
    def __get__(self: Activity[Concatenate[T, Q], R], instance: T, owner: type[T], /) -> Activity[Q, R]: ...
    def __get__(self, instance: object, owner: type[Any], /) -> Any:
        if not self.attribute:
            return self
        found = self if owner is self.owner else self.of_class(owner)
        if instance is None:
            return found
        view = found._view()  # noqa: SLF001  an Activity, too
        view._instance = instance  # noqa: SLF001  an Activity, too
        return view

    def __reduce__(self) -> tuple[Any, ...]:
        if self._instance is not None:
            raise TypeError(
                f"the activity {self.name!r} of an instance cannot be pickled; take it from the class"
            )
        if self.owner is not None:
            name = f"{self.owner.__qualname__}.{self.attribute}"
            return _find, (self.owner.__module__, name, self.defaults)
        return _find, (self.__module__, self._fn.__qualname__, self.defaults)

    def __repr__(self) -> str:
        return f"<{'step' if self.is_local else 'activity'} {self.name}>"

    def of_class(self, cls: type[Any]) -> Activity[P, R]:
        """The activity as a subclass inherits it: with its own instance, and the name
        `Subclass.method` where none was given to it.
        """
        inherited = _inherited.setdefault(cls, {})
        found = inherited.get(self)
        if found is None:
            found = inherited[self] = self.stand_in_for(cls, self._name_in(cls))
        return found

    def stand_in_for(self, cls: type[Any], name: str) -> Activity[P, R]:
        """A method of a class under another name."""
        view = self.definition._view()  # noqa: SLF001  an Activity, too
        view.definition, view.owner, view.name = view, cls, name
        view.stand_ins = []
        view._fn = specialised(self._fn, cls, self.owner)  # noqa: SLF001
        view.__dict__.pop("returns", None)
        return cast("Activity[P, R]", view)

    def _name_in(self, cls: type[Any]) -> str:
        if self.name != _qualname(self._fn):
            return self.name
        return f"{cls.__qualname__.rpartition('<locals>.')[2]}.{self.attribute}"

    def _view(self) -> Activity[P, R]:
        view = cast("Activity[P, R]", Activity.__new__(Activity))
        view.__dict__.update(self.__dict__)
        return view

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise misuse(f"the activity {self.name}{signature_in_words(self._fn)}: {error}") from None

    def _run_here(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Coroutine[object, None, R]:
        attempt = attempt_here(f"activity {self.name!r}", f"Use {self.name}.fn(…) for the bare function.")
        fn = self.definition.faked_by
        if fn is None:
            fn = self.fn
            if self.attribute and self._instance is None:
                raise UsageError(
                    f"{calling_place()}: the activity {self.name!r} is a method: outside workflows call it "
                    "on an instance of "
                    f"{self.owner.__name__ if self.owner else 'its class'}."
                )
        return run_as(attempt, self.name, fn, args, kwargs)


class Decorator(Protocol):
    """`@activity.defn(…)`."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Activity[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Activity[P, R]: ...


@overload
def defn(fn: Callable[P, Coroutine[Any, Any, R]], /) -> Activity[P, R]: ...
@overload
def defn(fn: Callable[P, R], /) -> Activity[P, R]: ...
@overload
def defn(
    *,
    name: str | None = None,
    timeout: Duration = "1m",
    retry: Retry = ...,
    queue: str | None = None,
    at_most_once: bool = False,
    reconcile: Callable[..., Any] | None = None,
    on_cancel: OnCancel = "ask",
    heartbeat_timeout: Duration = ...,
    executor: Executor = "thread",
) -> Decorator: ...
def defn(fn: Any = None, /, **options: Any) -> Any:
    """Makes a function, or a method, an activity; bare, or with options.

    Args:
        fn: sync (it runs in a thread) or async.
        options: `name`, by default the function's; `timeout` of ONE attempt; `retry`; `queue`, of
            the workers that serve it; `on_cancel` and `heartbeat_timeout` as of `Activity.options`.
            `at_most_once`: the function is not run again while it is unknown whether it took
            effect; by default it is then not retried either. `reconcile` takes what the function
            takes, and is asked for the outcome of an attempt that was interrupted: it returns the
            result, or raises `errors.NotDone`: then the function is run again. Without it such an
            activity fails with `errors.OutcomeUnknown`. `executor="process"`: a function that
            computes runs in a child process of the worker, one for each core, so that it does not
            hold up others; a timeout, or a cancellation, kills it.

    Raises:
        UsageError: it is not a function, or an option is invalid; the message names the line.
    """
    allowed = ("name", "timeout", "retry", "queue", "at_most_once", "reconcile", "executor", *_MORE)
    return _decorate(fn, options, ActivityOptions(), allowed, "activity.defn")


@overload
def step(fn: Callable[P, Coroutine[Any, Any, R]], /) -> Activity[P, R]: ...
@overload
def step(fn: Callable[P, R], /) -> Activity[P, R]: ...
@overload
def step(
    *,
    name: str | None = None,
    timeout: Duration = "10s",
    retry: Retry = ...,
    on_cancel: OnCancel = "ask",
    heartbeat_timeout: Duration = ...,
) -> Decorator: ...
def step(fn: Any = None, /, **options: Any) -> Any:
    """A local activity: it runs in the engine's process, with the same guarantees. No queue, so
    none can be given.

    Args:
        fn: sync (it runs in a thread) or async; quick.
        options: `name`, by default the function's; `timeout` of ONE attempt; `retry`; `on_cancel`
            and `heartbeat_timeout` as of `Activity.options`.

    Raises:
        UsageError: it is not a function, or an option is invalid; the message names the line.
    """
    return _decorate(
        fn,
        options,
        ActivityOptions(queue="", timeout_us=10_000_000),
        ("name", "timeout", "retry", *_MORE),
        "activity.step",
    )


class TransactionDecorator(Protocol):
    """`@activity.transaction(…)`: the first parameter is given by the database."""

    @overload
    def __call__(self, fn: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> Activity[P, R]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[Any, P], R], /) -> Activity[P, R]: ...


def transaction(
    engine: object,
    /,
    *,
    name: str | None = None,
    timeout: Duration = "1m",
    retry: Retry | None = None,
    queue: str | None = None,
    table: str = TABLE,
) -> TransactionDecorator:
    """An activity that is one transaction of your database: it takes effect exactly once.

        @activity.transaction(engine)
        def transfer(connection: Connection, source: str, target: str, cents: int) -> int: ...

        await transfer("ada", "bob", 500)

    What the function does with its connection and a row with its result are committed together;
    an attempt that is repeated takes the result of the row. PostgreSQL, and SQLite by SQLAlchemy.

    Args:
        engine: of SQLAlchemy an `Engine` or `AsyncEngine` (the function gets a connection), a
            `sessionmaker` or `async_sessionmaker` (a session); of psycopg a `ConnectionPool`, an
            `AsyncConnectionPool`, or the text by which to connect.
        name: by default the function's.
        timeout: of ONE attempt.
        retry: when it is tried again.
        queue: of the workers that serve it.
        table: of the results; it is created if it is not there.

    Raises:
        UsageError: the function does not fit the engine, or an option is invalid; the message names
            the line.
    """
    given = {"name": name, "timeout": timeout, "retry": retry, "queue": queue}
    options = {key: value for key, value in given.items() if value is not None}

    def decorate(fn: Any) -> Any:
        if not isinstance(fn, FunctionType):
            _not_a_function(fn, "activity.transaction")
        try:
            wrapper = transactional(fn, engine, table)
        except UsageError as error:
            raise UsageError(f"{place_of(fn)}: activity.transaction: {error}") from None
        allowed = ("name", "timeout", "retry", "queue")
        found = _decorate(wrapper, options, ActivityOptions(), allowed, "activity.transaction")
        found.keeps_result = True
        return found

    return cast("TransactionDecorator", decorate)


def named(name: str, *, returns: type[R], queue: str | None = None) -> Activity[..., R]:
    """An activity that only its name is known of: one of another language, or of a workflow that is
    data.

    Args:
        name: by which its workers know it.
        returns: what its result is decoded to.
        queue: of the workers that serve it.

    Raises:
        UsageError: the name or the queue is invalid.
    """

    def absent(*args: Any, **kwargs: Any) -> Any:
        raise UsageError(f"the activity {name!r} is declared by name only: it has no function to call here.")

    try:
        activity = Activity[..., R](
            absent,
            valid(name, "name"),
            compiled({} if queue is None else {"queue": queue}, ActivityOptions()),
        )
    except UsageError as error:
        raise UsageError(f"{calling_place()}: activity.named: {error}") from None
    activity.returns = returns
    return activity


def client() -> Client:
    """A client of the platform that runs this activity, with the codec of its app.

        @activity.defn
        async def escalate(order_id: str) -> None:
            await activity.client().start(f"review-{order_id}", Review.process, order_id)

    All attempts of a process share one connection. Closing what this returns leaves it open. In a
    sync function use `sync_client`; this returns the same there.

    Raises:
        UsageError: no attempt is running here, or it has no platform.
        InfrastructureError: the worker has stopped.
    """
    clients = clients_here("activity.client")
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return cast("Client", clients.of_sync())
    return cast("Client", clients.of_async())


def sync_client() -> SyncClient:
    """The same as `client` for a sync function, which runs in a thread: its methods block.

    Raises:
        UsageError: no attempt is running here, or it has no platform; or this is async code.
        InfrastructureError: the worker has stopped.
    """
    clients = clients_here("activity.sync_client")
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return cast("SyncClient", clients.of_sync())
    raise misuse("activity.sync_client would block the loop of this async code: use activity.client.")


def _decorate(
    fn: Any, options: dict[str, Any], base: ActivityOptions, allowed: tuple[str, ...], what: str
) -> Any:
    if fn is None:
        return functools.partial(_decorate, options=options, base=base, allowed=allowed, what=what)
    if not isinstance(fn, FunctionType):
        _not_a_function(fn, what)
    place = place_of(fn)
    try:
        name = _name(fn, _only(allowed, options).get("name"))
        given = options.copy()
        reconcile = given.pop("reconcile", None)
        executor = given.pop("executor", "thread")
        _check_executor(executor, fn)
        base = guarded(base, reconcile, at_most_once=given.pop("at_most_once", False))
        _check_reconcile(reconcile, fn)
        activity = Activity[..., Any](fn, name, compiled(given, base))
        activity.reconcile = reconcile
        activity.executor = executor
    except UsageError as error:
        raise UsageError(f"{place}: {what}: {error}") from None
    remember_local_names(fn)
    DEFINED.append(activity)
    return activity


def _check_executor(executor: object, fn: FunctionType) -> None:
    if fault := _fault_of_executor(executor, fn):
        raise UsageError(fault)


def _fault_of_executor(executor: object, fn: FunctionType) -> str:
    """Why a function cannot run where it should; empty: it can."""
    if executor == "thread":
        return ""
    if executor != "process":
        return f'executor={executor!r} must be "thread" or "process".'
    if inspect.iscoroutinefunction(fn):
        return 'executor="process" is for plain functions that compute; an `async def` runs on the loop.'
    if takes_self(fn):
        return (
            'executor="process" is for functions: the instance of a method, with what it holds, cannot be '
            "in another process."
        )
    if "<" in fn.__qualname__:
        return (
            f'executor="process": {fn.__qualname__} is defined inside a function, where another process '
            "cannot find it; move it to the top level of its module."
        )
    return ""


def _check_reconcile(reconcile: Callable[..., Any] | None, fn: FunctionType) -> None:
    if reconcile is None:
        return
    if takes_self(reconcile) != takes_self(fn) or not takes_the_same(reconcile, fn):
        of_same_class = ", a method of the same class" if takes_self(fn) else ""
        raise UsageError(
            f"reconcile must take what {fn.__name__} takes, {signature_in_words(fn)}{of_same_class}, but is "
            f"{_called(reconcile)}."
        )


def _called(fn: Callable[..., Any]) -> str:
    try:
        return f"{getattr(fn, '__name__', repr(fn))}{signature_in_words(fn)}"
    except (TypeError, ValueError):
        return repr(fn)


def _not_a_function(given: object, what: str) -> None:
    raise UsageError(
        f"{calling_place()}: {what} is for functions and methods that take `self`, not {given!r}."
    )


def _name(fn: FunctionType, given: object) -> str:
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise UsageError(f"{fn.__qualname__} yields; an activity returns its result.")
    if given is None:
        if fn.__name__ == "<lambda>":
            raise UsageError("a lambda has no name by which workers could find it; write a `def`.")
        return _qualname(fn)
    return valid(given, "name")


def _qualname(fn: Callable[..., Any]) -> str:
    return fn.__qualname__.rpartition("<locals>.")[2]


def _only(allowed: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    if odd := options.keys() - set(allowed):
        raise UsageError(f"unknown option {min(odd)!r}; known: {', '.join(allowed)}.")
    return options


def _find(module: str, qualname: str, options: ActivityOptions) -> Activity[..., Any]:
    found: Any = importlib.import_module(module)
    for attribute in qualname.split("."):
        found = getattr(found, attribute)
    activity = cast("Activity[..., Any]", found)
    if activity.defaults == options:
        return activity
    view = activity._view()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  one module
    view.defaults = options
    return view
