"""The signature of an author's function: its `self`, and its annotations resolved."""

from __future__ import annotations

import inspect
import re
import sys
import typing
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from perdure.errors import UsageError
from perdure.model.source import is_ours, place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

_NAME: Final = re.compile(r"[A-Za-z_]\w*")
_meant: Final[WeakKeyDictionary[Callable[..., Any], Mapping[Any, Any]]] = WeakKeyDictionary()
"""What the type variables in a function's annotations stand for."""
_of_classes: Final[WeakKeyDictionary[type[Any], dict[FunctionType, FunctionType]]] = WeakKeyDictionary()
_local_names: Final[WeakKeyDictionary[Callable[..., Any], dict[str, Any]]] = WeakKeyDictionary()


def takes_self(fn: Callable[..., Any]) -> bool:
    """Whether it is a method: written in a class, with `self` as the first parameter."""
    function = getattr(fn, "__wrapped__", fn)
    owner = getattr(function, "__qualname__", "").rpartition(".")[0]
    if not owner or owner.endswith("<locals>"):
        return False
    code = getattr(function, "__code__", None)
    return code is not None and code.co_argcount > 0 and code.co_varnames[0] == "self"


def signature_of(fn: Callable[..., Any]) -> inspect.Signature:
    """The signature of an author's function or method, without `self`."""
    signature = inspect.signature(fn)
    if not takes_self(fn):
        return signature
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def positional_counts(signature: inspect.Signature) -> tuple[int, int]:
    """How many positional arguments a call without keywords takes, at least and at most; (1, 0) when it needs keywords."""
    fewest = most = 0
    for parameter in signature.parameters.values():
        match parameter.kind:
            case inspect.Parameter.VAR_POSITIONAL:
                most = sys.maxsize
            case inspect.Parameter.KEYWORD_ONLY if parameter.default is parameter.empty:
                return 1, 0
            case inspect.Parameter.POSITIONAL_ONLY | inspect.Parameter.POSITIONAL_OR_KEYWORD:
                fewest += parameter.default is parameter.empty
                most += 1
            case _:
                pass
    return fewest, most


def remember_local_names(fn: Callable[..., Any]) -> None:
    """Called by decorators: keeps what the annotations of a function that is written in a function mean.

    Annotations are text that is resolved late, when the names of an enclosing function (a test, mostly) are out of reach.
    """
    if not isinstance(fn, FunctionType) or "<locals>" not in fn.__qualname__:
        return
    wanted = {name for text in fn.__annotations__.values() if isinstance(text, str) for name in _NAME.findall(text)}
    found: dict[str, Any] = {}
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  the documented way that needs no import
    while frame is not None and (is_ours(frame.f_globals.get("__name__", "")) or frame.f_globals is fn.__globals__):
        if frame.f_globals is fn.__globals__ and frame.f_locals is not frame.f_globals:
            found = {name: frame.f_locals[name] for name in wanted if name in frame.f_locals} | found
        frame = frame.f_back
    if found:
        _local_names[fn] = found


def as_in(cls: type[Any], fn: FunctionType, home: type[Any]) -> FunctionType:
    """A method as a subclass has it: for `class Orders(Base[Order])` a copy whose `T` means Order; itself where there is nothing to fill in.

    The copy runs the same code. Values are encoded by annotation, and by function, so the subclass needs a function of its own.

    Args:
        cls: the class that has the method.
        fn: the function.
        home: the class in which it is written.
    """
    copies = _of_classes.setdefault(cls, {})
    if (found := copies.get(fn)) is not None:
        return found
    copy = fn
    if meant := _type_arguments(cls, home):
        copy = FunctionType(fn.__code__, fn.__globals__, fn.__name__, fn.__defaults__, fn.__closure__)
        for name in ("__annotations__", "__doc__", "__kwdefaults__", "__module__", "__qualname__"):
            setattr(copy, name, getattr(fn, name))
        copy.__dict__.update(fn.__dict__)
        _meant[copy] = meant
        if fn in _local_names:
            _local_names[copy] = _local_names[fn]
    copies[fn] = copy
    return copy


def _type_arguments(cls: type[Any], home: type[Any]) -> Mapping[Any, Any]:
    """What the type variables of `home` stand for in a subclass."""
    meanings: dict[Any, dict[Any, Any]] = {}
    for each in cls.__mro__:
        for base in vars(each).get("__orig_bases__", ()):
            origin = typing.get_origin(base)
            variables = getattr(origin, "__parameters__", ())
            filled_in = [_filled_in(argument, meanings.get(each, {})) for argument in typing.get_args(base)]
            if len(variables) == len(filled_in):
                meanings.setdefault(origin, dict(zip(variables, filled_in, strict=True)))
    return meanings.get(home, {})


def _filled_in(annotation: Any, meant: Mapping[Any, Any]) -> Any:
    if isinstance(annotation, typing.TypeVar):
        return meant.get(annotation, annotation)
    variables = getattr(annotation, "__parameters__", ())
    if isinstance(annotation, type) or not variables:  # a class has parameters of its own, which stay open
        return annotation
    return annotation[tuple(meant.get(each, each) for each in variables)]


def hints_of(fn: Callable[..., Any]) -> Mapping[str, Any]:
    """Annotations by parameter, and of "return"; those that are missing are left out.

    Raises:
        UsageError: one names something that is not there at run time.
    """
    try:
        hints = typing.get_type_hints(fn, localns=_local_names.get(fn), include_extras=True)
        meant = _meant.get(fn)
        return {name: _filled_in(hint, meant) for name, hint in hints.items()} if meant else hints
    except Exception as error:  # noqa: BLE001 - an annotation is any expression of the author's
        name = getattr(fn, "__qualname__", repr(fn)).rpartition("<locals>.")[2]
        if isinstance(error, NameError | AttributeError):
            raise UsageError(
                f"{place_of(fn)}: an annotation of {name} cannot be resolved: {error}. Values are encoded by annotation: "
                "import it outside `if TYPE_CHECKING:`, or define it at the top level of the module."
            ) from None
        raise UsageError(f"{place_of(fn)}: an annotation of {name} is not a type: {error}") from None
