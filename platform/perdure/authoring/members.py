"""The members of a workflow class. Accessed on an instance, a member is the method; accessed on the
class, it is a typed reference that knows its class.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from types import FunctionType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    overload,
)

from perdure.authoring.workflow_type import definition_of_class
from perdure.errors import UsageError
from perdure.model.generics import specialised
from perdure.model.limits import fault_of_id
from perdure.model.runtime import misuse
from perdure.model.signature import hints_of, remember_local_names, takes_self
from perdure.model.source import calling_place, place_of

if TYPE_CHECKING:
    from perdure.authoring.workflow_type import Definition

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
X = TypeVar("X")
R_co = TypeVar("R_co", covariant=True)
S_co = TypeVar("S_co", covariant=True)
S_contra = TypeVar("S_contra", contravariant=True)
D = TypeVar("D", bound=Callable[..., Any])
F = TypeVar("F", bound=Callable[..., Any])

_BY_POSITION: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def without_options(what: str, arguments: int = 1) -> Callable[[D], D]:
    """Makes a decorator that takes only its function refuse `@workflow.run()` and
    `@workflow.signal(name="x")` with advice, in place of Python's message about a missing argument.

    Args:
        what: the decorator's name as authors write it.
        arguments: how many it takes, `self` included.
    """

    def wrap(decorator: D) -> D:
        @functools.wraps(decorator)
        def checked(*args: Any, **options: Any) -> Any:
            if options or len(args) != arguments:
                raise UsageError(f"{calling_place()}: write @{what} without parentheses: it has no options.")
            return decorator(*args)

        return cast("D", checked)

    return wrap


def with_name(what: str) -> Callable[[Callable[[Any], Member]], Callable[..., Any]]:
    """Makes a decorator of a method take `name=`, too: the name by which others ask for it.

    Args:
        what: the decorator's name as authors write it.
    """

    def wrap(decorator: Callable[[Any], Member]) -> Callable[..., Any]:
        @functools.wraps(decorator)
        def checked(*args: Any, **options: Any) -> Any:
            name = options.get("name")
            if options.keys() - {"name"} or len(args) > 1:
                odd = ", ".join(sorted(options.keys() - {"name"})) or "more than one argument"
                raise UsageError(f"{calling_place()}: @{what} takes only name=, not {odd}.")
            if name is not None and (fault := fault_of_id(name, "name")):
                raise UsageError(f"{calling_place()}: @{what}: {fault}")

            def decorate(fn: Any) -> Member:
                member = decorator(fn)
                member.given = name
                return member

            return decorate(args[0]) if args else decorate

        return checked

    return wrap


class RunRef(Generic[S_co, P, R_co]):
    """`Order.process` as accessed on the class, or a function workflow.

    Calling a reference to a function workflow calls the function.
    """

    def __init__(
        self, owner: type[Any] | None, fn: Callable[..., Any], definition: Definition | None = None
    ) -> None:
        functools.update_wrapper(self, fn)
        self._owner = owner
        self._fn = fn
        self._definition = definition

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        if self._owner is not None:
            raise misuse(
                f"{self!r} is called on the class. Start it with a client, or call it on an instance."
            )
        coroutine: Coroutine[Any, Any, R_co] = self._fn(*args, **kwargs)
        return coroutine

    @property
    def definition(self) -> Definition:
        """The definition of the workflow.

        Raises:
            UsageError: the class is not marked with `@workflow.defn`.
        """
        if self._definition is not None:
            return self._definition
        assert self._owner is not None, "a run without a class has its definition"
        return definition_of_class(self._owner)

    def __repr__(self) -> str:
        if self._owner is None:
            return f"<run {self._fn.__qualname__}>"
        return f"<run {self._owner.__name__}.{self._fn.__name__}>"


class _MemberRef:
    """A member accessed on its class.

    Attributes:
        name: which travels with commands: that of the attribute, or the given one.
        attribute: its name on the class.
        fn: your function.
    """

    __slots__ = ("_owner", "attribute", "fn", "name")

    def __init__(self, owner: type[Any], member: Member) -> None:
        self._owner = owner
        self.name = member.wire_name
        self.attribute = member.name
        self.fn = member.of_class(owner)

    @property
    def owner(self) -> type[Any]:
        """The class on which it was accessed."""
        return self._owner

    @property
    def definition(self) -> Definition:
        """The definition of that class's workflow.

        Raises:
            UsageError: the class is not marked with `@workflow.defn`.
        """
        return definition_of_class(self._owner)

    @property
    def returns(self) -> Any:
        """The return annotation, resolved; Any where there is none."""
        return hints_of(self.fn).get("return", Any)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._owner.__name__}.{self.attribute}>"


class SignalRef(_MemberRef, Generic[S_contra, P]):
    """`Order.picked_up`."""

    __slots__ = ()


class QueryRef(_MemberRef, Generic[S_contra, P, R_co]):
    """`Order.remaining`."""

    __slots__ = ()


class UpdateRef(_MemberRef, Generic[S_contra, P, R_co]):
    """`Order.change_address`."""

    __slots__ = ()


class ViewRef(_MemberRef, Generic[S_contra, R_co]):
    """`Order.status`."""

    __slots__ = ()


class Member:
    """The base of the descriptors.

    Attributes:
        fn: your function.
        name: of the attribute.
        given: the name that `name=` gives it; None when it gives none.
        wire_name: which travels with commands; a method that overrides one of a base class keeps
            that of the base class.
        kind: as text.
    """

    kind = "member"

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self.name = self.wire_name = fn.__name__
        self.given: str | None = None
        self._home: type[Any] | None = None
        self.__doc__ = fn.__doc__
        remember_local_names(fn)

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self.name = name
        self._home = owner
        overridden = (vars(base).get(name) for base in owner.__mro__[1:])
        inherited = next((each.wire_name for each in overridden if isinstance(each, Member)), name)
        self.wire_name = self.given or inherited

    def of_class(self, cls: type[Any]) -> Callable[..., Any]:
        """The function as this class has it; the class may specialise the generic class that
        defines the member.
        """
        return specialised(self.fn, cls, self._home)

    def _bound(self, instance: object) -> Any:
        return self.fn.__get__(instance)


class Run(Member, Generic[P, R]):
    """`@workflow.run`."""

    kind = "run"

    @overload
    def __get__(self, instance: None, owner: type[S], /) -> RunRef[S, P, R]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any], /) -> Callable[P, Coroutine[Any, Any, R]]: ...
    def __get__(self, instance: object, owner: type[Any], /) -> Any:
        return (
            RunRef[Any, Any, Any](owner, self.of_class(owner)) if instance is None else self._bound(instance)
        )


class Signal(Member, Generic[P, X]):
    """`@workflow.signal`. `X` is what calling the method on `self` gives, a coroutine or not."""

    kind = "signal"

    @overload
    def __get__(self, instance: None, owner: type[S], /) -> SignalRef[S, P]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any], /) -> Callable[P, X]: ...
    def __get__(self, instance: object, owner: type[Any], /) -> Any:
        return SignalRef[Any, Any](owner, self) if instance is None else self._bound(instance)


class Query(Member, Generic[P, R]):
    """`@workflow.query`."""

    kind = "query"

    @overload
    def __get__(self, instance: None, owner: type[S], /) -> QueryRef[S, P, R]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any], /) -> Callable[P, R]: ...
    def __get__(self, instance: object, owner: type[Any], /) -> Any:
        return QueryRef[Any, Any, Any](owner, self) if instance is None else self._bound(instance)


class Update(Member, Generic[P, R, X]):
    """`@workflow.update`. `X` is what calling the method on `self` gives, a coroutine or not.

    Attributes:
        validates: your validator; None when there is none.
    """

    kind = "update"

    def __init__(self, fn: Callable[..., Any]) -> None:
        super().__init__(fn)
        self.validates: Callable[..., Any] | None = None

    @without_options("….validator", arguments=2)
    def validator(self, fn: Callable[Concatenate[Any, P], None], /) -> Callable[Concatenate[Any, P], None]:
        """Mark the method that accepts or rejects an update: `@change_address.validator`.

        It takes the arguments of the update and changes nothing. If it raises, the update is
        rejected: the caller gets `errors.UpdateRejected`, and nothing is recorded.

        Raises:
            UsageError: it is async, or there is one already.
        """
        _plain(fn, f"{self.name}.validator")
        if self.validates is not None:
            raise UsageError(f"{place_of(fn)}: the update {self.name} has a validator already.")
        self.validates = fn
        return fn

    @overload
    def __get__(self, instance: None, owner: type[S], /) -> UpdateRef[S, P, R]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any], /) -> Callable[P, X]: ...
    def __get__(self, instance: object, owner: type[Any], /) -> Any:
        return UpdateRef[Any, Any, Any](owner, self) if instance is None else self._bound(instance)


class View(Member, Generic[R]):
    """`@workflow.view`."""

    kind = "view"

    @overload
    def __get__(self, instance: None, owner: type[S], /) -> ViewRef[S, R]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any], /) -> Callable[[], R]: ...
    def __get__(self, instance: object, owner: type[Any], /) -> Any:
        return ViewRef[Any, Any](owner, self) if instance is None else self._bound(instance)


@without_options("workflow.run")
def run(fn: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> Run[P, R]:
    """Mark the method that is the workflow, an `async def`; a class has exactly one.

    Raises:
        UsageError: the method cannot be one; the message names the line.
    """
    if not inspect.iscoroutinefunction(_checked(fn, "workflow.run")):
        raise UsageError(f"{place_of(fn)}: the run of a workflow is an `async def`; {_called(fn)} is not.")
    return Run(fn)


class SignalDecorator(Protocol):
    """`@workflow.signal(…)`."""

    @overload
    def __call__(
        self, fn: Callable[Concatenate[Any, P], Coroutine[Any, Any, None]], /
    ) -> Signal[P, Coroutine[Any, Any, None]]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[Any, P], None], /) -> Signal[P, None]: ...


class QueryDecorator(Protocol):
    """`@workflow.query(…)`."""

    def __call__(self, fn: Callable[Concatenate[Any, P], R], /) -> Query[P, R]: ...


class UpdateDecorator(Protocol):
    """`@workflow.update(…)`."""

    @overload
    def __call__(
        self, fn: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /
    ) -> Update[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[Any, P], R], /) -> Update[P, R, R]: ...


class OnSignal(Member):
    """`@workflow.on_signal`."""

    kind = "on_signal"

    def __get__(self, instance: object, owner: type[Any], /) -> Any:
        return self if instance is None else self._bound(instance)


@overload
def signal(
    fn: Callable[Concatenate[Any, P], Coroutine[Any, Any, None]], /
) -> Signal[P, Coroutine[Any, Any, None]]: ...
@overload
def signal(fn: Callable[Concatenate[Any, P], None], /) -> Signal[P, None]: ...
@overload
def signal(*, name: str) -> SignalDecorator: ...
@with_name("workflow.signal")
def signal(fn: Any, /) -> Any:
    """Mark a method, sync or async, as the handler of a one-way write; it returns nothing.

    Args:
        fn: the method.
        name: by which others send it; by default that of the method.

    Raises:
        UsageError: the method cannot be one; the message names the line.
    """
    _checked(fn, "workflow.signal")
    if fn.__annotations__.get("return") not in (None, "None"):
        raise UsageError(f"{place_of(fn)}: a signal has no result: {_called(fn)} must return None.")
    return Signal[Any, Any](fn)


@overload
def update(
    fn: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /
) -> Update[P, R, Coroutine[Any, Any, R]]: ...
@overload
def update(fn: Callable[Concatenate[Any, P], R], /) -> Update[P, R, R]: ...
@overload
def update(*, name: str) -> UpdateDecorator: ...
@with_name("workflow.update")
def update(fn: Any, /) -> Any:
    """Mark a method, sync or async, as the handler of a write with an answer.

    If it raises, the caller gets `errors.UpdateFailed`, and the run continues. The run does not
    close before its handlers have finished.

    Args:
        fn: the method.
        name: by which others send it; by default that of the method.

    Raises:
        UsageError: the method cannot be one; the message names the line.
    """
    return Update[Any, Any, Any](_checked(fn, "workflow.update"))


@overload
def query(fn: Callable[Concatenate[Any, P], R], /) -> Query[P, R]: ...
@overload
def query(*, name: str) -> QueryDecorator: ...
@with_name("workflow.query")
def query(fn: Any, /) -> Any:
    """Mark a plain method as a query: it reads the live run and changes nothing.

    Args:
        fn: the method.
        name: by which others ask it; by default that of the method.

    Raises:
        UsageError: the method cannot be one; the message names the line.
    """
    return Query[Any, Any](_plain(fn, "workflow.query"))


@without_options("workflow.on_signal")
def on_signal(fn: F, /) -> F:
    """Mark the method, sync or async, that handles the signals without a handler of their own.

    It takes the name of the signal, and then what the signal brings: `(self, name: str, order:
    Order)`, or `(self, name: str, *args: Any)` for signals with any number of arguments. A signal
    whose arguments do not fit is refused. Handlers of their own come first.

    Raises:
        UsageError: the method cannot be one; the message names the line.
    """
    parameters = list(inspect.signature(_checked(fn, "workflow.on_signal")).parameters.values())
    if len(parameters) < 2 or parameters[1].kind not in _BY_POSITION:
        raise UsageError(
            f"{place_of(fn)}: @workflow.on_signal: {_called(fn)} must take the name of the signal first: "
            "(self, name: str, *args: Any)."
        )
    if fn.__annotations__.get("return") not in (None, "None"):
        raise UsageError(f"{place_of(fn)}: a signal has no result: {_called(fn)} must return None.")
    return cast("F", OnSignal(fn))


@without_options("workflow.view")
def view(fn: Callable[[Any], R], /) -> View[R]:
    """Mark the method that returns the public state. It takes no arguments and changes nothing; it
    is evaluated after each change of the run. If it raises, the last state stays.

    Raises:
        UsageError: the method cannot be one; the message names the line.
    """
    if len(inspect.signature(_plain(fn, "workflow.view")).parameters) != 1:
        raise UsageError(f"{place_of(fn)}: a view has no parameters: {_called(fn)} must take only self.")
    return View(fn)


def _plain(fn: Callable[..., Any], what: str) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(_checked(fn, what)):
        raise UsageError(
            f"{place_of(fn)}: {what} is for a plain `def`; {_called(fn)} is async, but reads cannot wait."
        )
    return fn


def _checked(fn: object, what: str) -> Callable[..., Any]:
    if not isinstance(fn, FunctionType):
        raise UsageError(f"{calling_place()}: @{what} is for methods, not {fn!r}.")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise UsageError(f"{place_of(fn)}: @{what}: {_called(fn)} yields; it must return.")
    if not takes_self(fn):
        raise UsageError(
            f"{place_of(fn)}: @{what} is for methods of a workflow class, with `self` first; {_called(fn)} "
            "is not one."
        )
    return fn


def _called(fn: object) -> str:
    return getattr(fn, "__qualname__", repr(fn)).rpartition("<locals>.")[2]
