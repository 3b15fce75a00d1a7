"""The members of a workflow class: on an instance they are the method, on the class a reference
that knows its owner.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from types import FunctionType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from perdure.authoring.workflow_type import definition_of_class
from perdure.errors import UsageError
from perdure.model.generics import specialised
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


class RunRef(Generic[S_co, P, R_co]):
    """`Order.process` seen from the class, or a function workflow.

    Calling a function workflow runs the function.
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
        """Of the workflow.

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
        name: of the attribute; it travels with commands.
        fn: your function.
    """

    __slots__ = ("_owner", "fn", "name")

    def __init__(self, owner: type[Any], name: str, fn: Callable[..., Any]) -> None:
        self._owner = owner
        self.name = name
        self.fn = fn

    @property
    def owner(self) -> type[Any]:
        """The class that it was taken from."""
        return self._owner

    @property
    def definition(self) -> Definition:
        """Of the workflow that it was taken from.

        Raises:
            UsageError: the class is not marked with `@workflow.defn`.
        """
        return definition_of_class(self._owner)

    @property
    def returns(self) -> Any:
        """The return annotation, resolved; Any where there is none."""
        return hints_of(self.fn).get("return", Any)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._owner.__name__}.{self.name}>"


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
        kind: as text.
    """

    kind = "member"

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self.name = fn.__name__
        self._home: type[Any] | None = None
        self.__doc__ = fn.__doc__
        remember_local_names(fn)

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self.name = name
        self._home = owner

    def of_class(self, cls: type[Any]) -> Callable[..., Any]:
        """The function as a class has it, which may be derived from a generic one that has the
        member.
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
        return (
            SignalRef[Any, Any](owner, self.name, self.of_class(owner))
            if instance is None
            else self._bound(instance)
        )


class Query(Member, Generic[P, R]):
    """`@workflow.query`."""

    kind = "query"

    @overload
    def __get__(self, instance: None, owner: type[S], /) -> QueryRef[S, P, R]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any], /) -> Callable[P, R]: ...
    def __get__(self, instance: object, owner: type[Any], /) -> Any:
        return (
            QueryRef[Any, Any, Any](owner, self.name, self.of_class(owner))
            if instance is None
            else self._bound(instance)
        )


class Update(Member, Generic[P, R, X]):
    """`@workflow.update`. `X` is what calling the method on `self` gives, a coroutine or not.

    Attributes:
        validates: your validator; None when there is none.
    """

    kind = "update"

    def __init__(self, fn: Callable[..., Any]) -> None:
        super().__init__(fn)
        self.validates: Callable[..., Any] | None = None

    def validator(self, fn: Callable[Concatenate[Any, P], None], /) -> Callable[Concatenate[Any, P], None]:
        """Marks the method that says whether an update is taken: `@change_address.validator`.

        It takes what the update takes, changes nothing, and raises to say no: the caller gets
        `errors.UpdateRejected`, and nothing is recorded.

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
        return (
            UpdateRef[Any, Any, Any](owner, self.name, self.of_class(owner))
            if instance is None
            else self._bound(instance)
        )


class View(Member, Generic[R]):
    """`@workflow.view`."""

    kind = "view"

    @overload
    def __get__(self, instance: None, owner: type[S], /) -> ViewRef[S, R]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any], /) -> Callable[[], R]: ...
    def __get__(self, instance: object, owner: type[Any], /) -> Any:
        return (
            ViewRef[Any, Any](owner, self.name, self.of_class(owner))
            if instance is None
            else self._bound(instance)
        )


def run(fn: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> Run[P, R]:
    """Marks the method that is the workflow: `async def`; a class has exactly one.

    Raises:
        UsageError: it cannot be one; the message names the line.
    """
    if not inspect.iscoroutinefunction(_checked(fn, "workflow.run")):
        raise UsageError(f"{place_of(fn)}: the run of a workflow is an `async def`; {_called(fn)} is not.")
    return Run(fn)


@overload
def signal(
    fn: Callable[Concatenate[Any, P], Coroutine[Any, Any, None]], /
) -> Signal[P, Coroutine[Any, Any, None]]: ...
@overload
def signal(fn: Callable[Concatenate[Any, P], None], /) -> Signal[P, None]: ...
def signal(fn: Any, /) -> Any:
    """Marks a method as a handler of one-way writes, sync or async; it returns nothing.

    Raises:
        UsageError: it cannot be one; the message names the line.
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
def update(fn: Any, /) -> Any:
    """Marks a method as a handler of writes that are answered, sync or async.

    What it raises is the caller's `errors.UpdateFailed`; the run continues. The run does not close
    before its handlers have ended.

    Raises:
        UsageError: it cannot be one; the message names the line.
    """
    return Update[Any, Any, Any](_checked(fn, "workflow.update"))


def query(fn: Callable[Concatenate[Any, P], R], /) -> Query[P, R]:
    """Marks a method as a read of the live run: a plain function that changes nothing.

    Raises:
        UsageError: it cannot be one; the message names the line.
    """
    return Query(_plain(fn, "workflow.query"))


def view(fn: Callable[[Any], R], /) -> View[R]:
    """Marks the method that makes the public state: pure, no arguments, evaluated after each
    change; if it raises, the last one stays.

    Raises:
        UsageError: it cannot be one; the message names the line.
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
