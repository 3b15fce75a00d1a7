"""Signatures of your functions: without `self`, and with resolved annotations."""

from __future__ import annotations

import inspect
import re
import sys
import typing
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from perdure.errors import UsageError
from perdure.model.generics import class_hints, copied, original_of, resolved
from perdure.model.source import is_ours, place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

_NAME: Final = re.compile(r"[A-Za-z_]\w*")
_local_names: Final[WeakKeyDictionary[Callable[..., Any], dict[str, Any]]] = WeakKeyDictionary()


def takes_self(fn: Callable[..., Any]) -> bool:
    """Whether a function is a method: written in a class, with `self` as the first parameter."""
    function = getattr(fn, "__wrapped__", fn)
    owner = getattr(function, "__qualname__", "").rpartition(".")[0]
    if not owner or owner.endswith("<locals>"):
        return False
    code = getattr(function, "__code__", None)
    return code is not None and code.co_argcount > 0 and code.co_varnames[0] == "self"


def signature_of(fn: Callable[..., Any]) -> inspect.Signature:
    """The signature of your function or method, without `self`."""
    signature = inspect.signature(fn)
    if not takes_self(fn):
        return signature
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def positional_counts(signature: inspect.Signature) -> tuple[int, int]:
    """Minimum and maximum number of positional arguments of a call without keywords; (1, 0): it
    needs keywords.
    """
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


def takes_the_same(fn: Callable[..., Any], model: Callable[..., Any]) -> bool:
    """Whether every call that fits the signature of `model` fits that of `fn`, `self` not counted.

    A callable without a signature, as some that are written in C, is taken to fit.
    """
    try:
        wanted, found = signature_of(model), signature_of(fn)
    except (TypeError, ValueError):
        return True
    named = [p.name for p in wanted.parameters.values() if p.kind is p.KEYWORD_ONLY]
    required = [name for name in named if wanted.parameters[name].default is inspect.Parameter.empty]
    fewest, most = positional_counts(_without(wanted, named))
    try:
        for count, names in ((fewest, required), (min(most, fewest + len(wanted.parameters)), named)):
            found.bind(*[None] * count, **dict.fromkeys(names))
    except TypeError:
        return False
    return True


def _without(signature: inspect.Signature, names: list[str]) -> inspect.Signature:
    return signature.replace(parameters=[p for p in signature.parameters.values() if p.name not in names])


class _AsWritten:
    """An annotation that is shown without quotes."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def signature_in_words(fn: Callable[..., Any]) -> str:
    """The signature as it is written, `self` left out: `(item: Item) -> int`.

    With `from __future__ import annotations` Python shows `(item: 'Item') -> 'int'`.
    """
    signature = signature_of(fn)
    parameters = [
        p.replace(annotation=_AsWritten(p.annotation)) if isinstance(p.annotation, str) else p
        for p in signature.parameters.values()
    ]
    returns = signature.return_annotation
    if isinstance(returns, str):
        returns = _AsWritten(returns)
    return str(signature.replace(parameters=parameters, return_annotation=returns))


def remember_local_names(fn: Callable[..., Any]) -> None:
    """Remember the names that the annotations of a nested function refer to. Decorators call this.

    Annotations are text that is resolved late, when the names of an enclosing function (a test,
    mostly) are out of reach.
    """
    if not isinstance(fn, FunctionType) or "<locals>" not in fn.__qualname__:
        return
    wanted = {
        name for text in fn.__annotations__.values() if isinstance(text, str) for name in _NAME.findall(text)
    }
    found: dict[str, Any] = {}
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  the documented way that needs no import
    while frame is not None and (
        is_ours(frame.f_globals.get("__name__", "")) or frame.f_globals is fn.__globals__
    ):
        if frame.f_globals is fn.__globals__ and frame.f_locals is not frame.f_globals:
            found = {name: frame.f_locals[name] for name in wanted if name in frame.f_locals} | found
        frame = frame.f_back
    if found:
        _local_names[fn] = found


def without_first(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A copy of a method, to read its signature, without the first parameter after `self`."""
    assert isinstance(fn, FunctionType)  # by its decorator
    copy = copied(fn)
    first, _, *others = inspect.signature(fn).parameters.values()
    copy.__dict__["__signature__"] = inspect.Signature([first, *others])
    share_local_names(original_of(fn), copy)
    return copy


def share_local_names(fn: Callable[..., Any], wrapper: Callable[..., Any]) -> None:
    """The annotations of a wrapper mean what those of its function mean."""
    remember_local_names(fn)
    if (found := _local_names.get(fn)) is not None:
        _local_names[wrapper] = found


_returns: Final[dict[tuple[Any, Any], Any]] = {}


def returns_of(fn: Any) -> Any:
    """The return annotation of any callable, resolved; Any where there is none.

    A closure is a new function at each call, so its annotation is cached by its code object.

    Raises:
        UsageError: the annotation has a name that is undefined at run time.
    """
    while isinstance(fn, partial):
        fn = fn.func
    fn = getattr(fn, "__func__", fn)
    if not isinstance(fn, FunctionType):
        fn = getattr(getattr(fn, "__call__", None), "__func__", None)  # noqa: B004 - of an object
        if not isinstance(fn, FunctionType):
            return Any
    annotation: Any = fn.__annotations__.get("return", Any)
    if annotation is Any:
        return Any
    key = (fn.__code__, annotation if isinstance(annotation, str) else id(annotation))
    found = _returns.get(key, _returns)
    if found is not _returns:
        return found
    remember_local_names(fn)
    found = hints_of(fn).get("return", Any)
    if isinstance(annotation, str) and fn not in _local_names:
        _returns[key] = found
    return found


def hints_of(fn: Callable[..., Any]) -> Mapping[str, Any]:
    """Annotations by parameter, and of "return"; missing ones are left out. Type variables are
    replaced by their meaning.

    Args:
        fn: your function or class, or a copy that `specialised` made of a method.

    Raises:
        UsageError: an annotation has a name that is undefined at run time.
    """
    try:
        if isinstance(fn, type):
            return class_hints(fn)
        local = _local_names.get(original_of(fn))
        return resolved(fn, typing.get_type_hints(fn, localns=local, include_extras=True))
    except Exception as error:  # noqa: BLE001 - an annotation is any expression of the author's
        name = getattr(fn, "__qualname__", repr(fn)).rpartition("<locals>.")[2]
        if isinstance(error, NameError | AttributeError):
            raise UsageError(
                f"{place_of(fn)}: an annotation of {name} cannot be resolved: {error}. Values are encoded "
                "by annotation: "
                "import it outside `if TYPE_CHECKING:`, or define it at the top level of the module."
            ) from None
        raise UsageError(f"{place_of(fn)}: an annotation of {name} is not a type: {error}") from None
