"""Resolves the type variables of a generic class in its derived classes.

`class Orders(Base[Order])` inherits `async def run(self, x: T) -> T`, whose `T` is `Order` there
and something else in the next class.
"""

from __future__ import annotations

import inspect
import sys
import typing
from types import FunctionType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_BOUND: Final = "__perdure_bound__"
"""The attribute of a copy that `specialised` made: the function, the class that the copy is for,
and the class that the function is written in."""
_copies: Final[WeakKeyDictionary[type[Any], dict[Callable[..., Any], Callable[..., Any]]]] = (
    WeakKeyDictionary()
)


def specialised(fn: Callable[..., Any], cls: type[Any], home: type[Any] | None) -> Callable[..., Any]:
    """A method specialised for a derived class: the same code, with the annotations of the class.

    Payloads know a function by its identity, and annotations are resolved late. So each derived
    class has a copy of its own.

    Args:
        fn: your function.
        cls: the class on which it was accessed.
        home: the class that it is written in.

    Returns:
        The function itself where its annotations mean the same in both.
    """
    if (
        home is None
        or home is cls
        or not getattr(home, "__parameters__", ())
        or not isinstance(fn, FunctionType)
    ):
        return fn
    copies = _copies.setdefault(cls, {})
    copy = copies.get(fn)
    if copy is None:
        copy = copies[fn] = copied(fn)
        setattr(copy, _BOUND, (fn, cls, home))
    return copy


def original_of(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function of which `specialised` made this copy, or the function itself."""
    bound = getattr(fn, _BOUND, None)
    return fn if bound is None else cast("Callable[..., Any]", bound[0])


def home_of(fn: Callable[..., Any], cls: type[Any]) -> type[Any] | None:
    """The class among the bases that has this function; None when none has."""
    return next((base for base in cls.__mro__ if fn in vars(base).values()), None)


def resolved(fn: Callable[..., Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    """The annotations of a function without type variables.

    Args:
        fn: your function, or a copy that `specialised` made.
        hints: the annotations as written, with names resolved.

    Raises:
        NameError: an argument of a base class has an undefined name.
    """
    bound = getattr(fn, _BOUND, None)
    meanings = {} if bound is None else _meanings_in(bound[1]).get(bound[2], {})
    return {name: _substituted(hint, meanings) for name, hint in hints.items()}


def class_hints(kind: Any) -> dict[str, Any]:
    """The annotations of a class and its bases, without type variables.

    Args:
        kind: a class, or an alias such as `Page[Order]`.

    Raises:
        NameError: an annotation has an undefined name.
    """
    origin = typing.get_origin(kind) or kind
    hints = typing.get_type_hints(origin, include_extras=True)
    if not any(getattr(hint, "__parameters__", ()) or isinstance(hint, TypeVar) for hint in hints.values()):
        return hints
    meanings = _meanings_in(kind)
    return {
        name: _substituted(hint, meanings.get(_owner_of(name, origin), {})) for name, hint in hints.items()
    }


def _owner_of(name: str, origin: Any) -> Any:
    """The class whose annotation it is."""
    bases: tuple[Any, ...] = origin.__mro__
    return next((base for base in bases if name in inspect.get_annotations(base)), origin)


def _meanings_in(kind: Any) -> dict[type[Any], dict[Any, Any]]:
    """Meanings of the type variables of a class and its bases, derived classes first."""
    found: dict[type[Any], dict[Any, Any]] = {}
    _follow(typing.get_origin(kind) or kind, typing.get_args(kind), found)
    return found


def _follow(cls: Any, arguments: tuple[Any, ...], found: dict[type[Any], dict[Any, Any]]) -> None:
    if cls in found and not arguments:
        return
    parameters = getattr(cls, "__parameters__", ())
    own: dict[Any, Any] = {}
    if all(isinstance(each, TypeVar) for each in parameters):
        own.update(zip(parameters, arguments, strict=False))
        for parameter in parameters[len(arguments) :]:
            own[parameter] = _substituted(_unbound(parameter), own)
    found[cls] = own
    bases: tuple[Any, ...] = cls.__dict__.get("__orig_bases__", cls.__bases__)
    for base in bases:
        origin = typing.get_origin(base)
        if origin is None and base is not object and isinstance(base, type):
            _follow(base, (), found)
        elif isinstance(origin, type) and origin not in _NOT_BASES:
            _follow(
                origin, tuple(_substituted(_named(each, cls), own) for each in typing.get_args(base)), found
            )


_NOT_BASES: Final = cast("tuple[Any, ...]", (Generic, Protocol))


def _substituted(hint: Any, meanings: Mapping[Any, Any]) -> Any:
    """An annotation with its type variables replaced by their meanings; unknown ones by their
    default, their bound, or Any.
    """
    if isinstance(hint, TypeVar):
        return meanings[hint] if hint in meanings else _unbound(hint)
    parameters = getattr(hint, "__parameters__", ())
    if not parameters or isinstance(hint, type) or not all(isinstance(each, TypeVar) for each in parameters):
        return hint  # a class as it is: its own variables are its decoder's business
    return hint[tuple(_substituted(each, meanings) for each in parameters)]


def _unbound(variable: Any) -> Any:
    """Meaning of an unbound type variable: its bound, default or constraints."""
    has_default = getattr(variable, "has_default", None)
    if has_default is not None and has_default():
        return _named(variable.__default__, variable)
    try:
        bound = _named(variable.__bound__, variable)
    except NameError:  # imported for type checkers only
        return Any
    return Any if bound is None or _is_abstract(bound) else bound


def _is_abstract(bound: Any) -> bool:
    """Whether it is a protocol or an abstract class, which no value can be decoded as."""
    if typing.get_origin(bound) is not None:
        return False
    if not isinstance(bound, type) or bound is object or bound.__module__ in _OF_LIBRARIES:
        return True
    return bool(inspect.isabstract(bound) or getattr(bound, "_is_protocol", False))


_OF_LIBRARIES: Final = ("abc", "enum", "msgspec", "numbers", "pydantic.main", "typing")
"""Their classes are bases of those that are meant: Enum, Struct, BaseModel."""


def _named(annotation: Any, where: Any) -> Any:
    """An annotation whose names are resolved.

    Args:
        annotation: an argument of a base class, or the bound of a type variable; the names in it
            may be text.
        where: the class or the variable in whose module they are.
    """
    if annotation is None:
        return None
    module = sys.modules.get(where.__module__)
    holder = SimpleNamespace(__annotations__={"it": annotation})
    return typing.get_type_hints(holder, vars(module) if module else {}, include_extras=True)["it"]


def copied(fn: FunctionType) -> FunctionType:
    """A function with the same code, and its own annotations."""
    copy = FunctionType(fn.__code__, fn.__globals__, fn.__name__, fn.__defaults__, fn.__closure__)
    copy.__kwdefaults__ = fn.__kwdefaults__
    copy.__annotations__ = fn.__annotations__
    copy.__qualname__, copy.__module__, copy.__doc__ = fn.__qualname__, fn.__module__, fn.__doc__
    copy.__dict__.update(fn.__dict__)
    return copy
