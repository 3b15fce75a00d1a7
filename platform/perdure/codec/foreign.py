"""Values of types that msgspec does not know: its hooks."""

from __future__ import annotations

import sys
import types
import typing
from collections import deque
from collections.abc import Callable
from functools import cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import PurePath
from typing import Any, ClassVar, Final

import msgspec

from perdure.errors import NotAwaited

IPS: Final = frozenset({IPv4Address, IPv6Address, IPv4Network, IPv6Network, IPv4Interface, IPv6Interface})
TEXTS: Final = (PurePath, *IPS)
"""Written as their text."""
_PLAIN: Final = (str, int, float)


class Misfit(ValueError):
    """JSON that does not fit an annotation.

    Attributes:
        fault: what is wrong, without a subject.
        path: to the part that does not fit, as in `.items[0]`.
    """

    def __init__(self, fault: str, path: str = "") -> None:
        super().__init__(fault)
        self.fault = fault
        self.path = path

    def within(self, step: str) -> Misfit:
        """Add a step to the front of the path."""
        self.path = step + self.path
        return self


class _AnyInstance(type):
    def __instancecheck__(cls, instance: object) -> bool:
        """The result of `read` is of many types; msgspec asks whether it is an instance."""
        return True


class Alternatives(metaclass=_AnyInstance):
    """The base of the classes that stand for annotations which msgspec does not take.

    Attributes:
        read: makes the value of JSON; raises Misfit.
    """

    read: ClassVar[Callable[[Any], Any]]


def encode_foreign(value: Any) -> Any:
    """Encode a value of a foreign type (msgspec's hook)."""
    kind = typing.cast("Any", type(value))
    if hasattr(kind, "__await__"):
        raise NotAwaited(f"has {value!r}, which was not awaited: write `await` before the call")
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json", round_trip=True, warnings=False)
    for plain in _PLAIN:
        if isinstance(value, plain):
            return plain(value)
    if isinstance(value, TEXTS):
        return str(value)
    if issubclass(kind, deque):
        return list(value)
    # on their own these have a JSON form
    if issubclass(kind, (tuple, frozenset)) or hasattr(kind, "__dataclass_fields__"):
        raise TypeError(f"a dict with keys of type {kind.__qualname__}; keys are text, numbers or enums")
    raise TypeError(
        f"a value of type {kind.__module__}.{kind.__qualname__}; use a dataclass, an enum, or a built-in type"
    )


def decode_foreign(kind: Any, value: Any) -> Any:
    """Decode a value of a foreign type (msgspec's hook)."""
    pydantic = sys.modules.get("pydantic")
    if kind is object:
        return value
    origin = typing.get_origin(kind) or kind
    if isinstance(origin, type):
        if issubclass(origin, Alternatives):
            return origin.read(value)
        if pydantic is not None and issubclass(origin, pydantic.BaseModel):
            return kind.model_validate_json(_encoder.encode(value), **_by_name(pydantic))
        if issubclass(origin, deque):
            item = typing.get_args(kind) or (Any,)
            return deque(msgspec.convert(value, types.GenericAlias(list, item), dec_hook=decode_foreign))
        if issubclass(origin, _PLAIN) and isinstance(value, _PLAIN):
            return origin(value)
        if issubclass(origin, TEXTS):
            return _of_text(origin, value)
    raise TypeError(
        f"is of type {shown(kind)}, which cannot be decoded from JSON; use a dataclass, an enum, or a "
        "built-in type"
    )


def _of_text(kind: Any, value: Any) -> Any:
    if type(value) is not str:
        raise Misfit(f"expected the text of {article(kind)}, got {KINDS[type(value)]}")
    try:
        return kind(value)
    except ValueError as error:
        raise Misfit(f"{value!r} is not {article(kind)}: {error}") from None


def article(kind: Any) -> str:
    """The name of a type with its article, for messages."""
    name = shown(kind)
    return f"an {name}" if name[:1] in "AEIOUaeio" else f"a {name}"


KINDS: Final[dict[type[Any], str]] = {
    type(None): "null", bool: "bool", int: "int", float: "float", str: "str", list: "array", dict: "object",
}  # fmt: skip
"""The names of JSON's kinds in messages, as msgspec has them."""


@cache
def _by_name(pydantic: Any) -> dict[str, bool]:
    """Write models by the names of their fields, which are unique; aliases are also read."""
    is_known = tuple(map(int, pydantic.VERSION.split(".")[:2])) >= (2, 11)
    return {"by_alias": True, "by_name": True} if is_known else {}


def is_decodable_class(kind: Any) -> bool:
    """Whether `decode_foreign` can decode a class that msgspec does not know."""
    origin = typing.get_origin(kind) or kind
    if origin is object:
        return True
    pydantic = sys.modules.get("pydantic")
    known = (deque, Alternatives, *_PLAIN, *TEXTS)
    if pydantic is not None:
        known = (*known, pydantic.BaseModel)
    return isinstance(origin, type) and issubclass(origin, known)


def undecodable(annotation: Any) -> Any:
    """The first class in an annotation that has no JSON form; None when all have."""
    if annotation in _ALWAYS:
        return None
    try:
        todo: list[Any] = [msgspec.inspect.type_info(annotation)]
    except (TypeError, NameError):
        return None  # the decoder takes it, so only the inspection is at its limit
    seen: set[int] = set()
    keep: list[Any] = []
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        keep.append(node)
        if isinstance(node, msgspec.inspect.CustomType):
            if not is_decodable_class(node.cls):
                return node.cls
        elif isinstance(node, msgspec.inspect.Type | msgspec.inspect.Field):
            todo += [getattr(node, name) for name in node.__struct_fields__]
        elif isinstance(node, tuple):
            todo += node
    return None


def shown(annotation: Any) -> str:
    """An annotation, for messages."""
    return annotation.__qualname__ if isinstance(annotation, type) else repr(annotation)


_ALWAYS: Final = (Any, object, None, typing.NoReturn, typing.Never)
_encoder: Final = msgspec.json.Encoder(enc_hook=encode_foreign)
