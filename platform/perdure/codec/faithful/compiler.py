"""Compiles an annotation to the check of its values."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections import abc
from collections.abc import Container
from inspect import Parameter
from typing import Annotated, Any, Final, Literal, NoReturn, TypeVar

import msgspec

from perdure.codec.faithful.containers import (
    Again,
    decoded_again,
    dict_of,
    fields_of,
    items_of,
    tuple_of,
    typed_dict_of,
    union_of,
)
from perdure.codec.faithful.scalars import EXACT, EXACT_KEYS, SCALARS, Check, check_none, exactly, literal
from perdure.codec.faithful.unannotated import check_json
from perdure.model.generics import class_hints

_ANY: Final = (Any, object, Parameter.empty, NoReturn, typing.Never)
_PLAIN: Final[frozenset[type[Any]]] = frozenset({str, int, bool, type(None)})
"""Every value of these types passes `check_json`."""
LISTS: Final = frozenset(
    {list, abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable, abc.Container, abc.Reversible}
)
SETS: Final = frozenset({set, abc.Set, abc.MutableSet})
DICTS: Final = frozenset({dict, abc.Mapping, abc.MutableMapping})
UNIONS: Final = (typing.Union, types.UnionType)


def check_of(annotation: Any, again: Again) -> Check:
    """Compile the check for values of an annotation.

    Args:
        annotation: resolved, and one that can be decoded.
        again: encodes a value and decodes it by an annotation. Raises PayloadError when that does
            not work.
    """
    return _Compiler(again).compile(annotation)


def exact_types(annotation: Any) -> frozenset[type[Any]]:
    """The types whose every value passes the check of an annotation: such a value needs no check.

    Only a value of exactly this type, none of a subclass. Values of other types may pass the check,
    too.
    """
    if annotation is None or annotation is type(None):
        return frozenset({type(None)})
    if _is_any(annotation):
        return _PLAIN
    if _is_among(annotation, EXACT) or _is_enum(annotation):
        return frozenset([annotation])
    if (supertype := getattr(annotation, "__supertype__", None)) is not None:
        return exact_types(supertype)
    if typing.get_origin(annotation) in UNIONS:
        members = typing.get_args(annotation)
        if any(_is_any(_of_new_type(member)) for member in members):
            return _PLAIN  # as in `_union`
        return frozenset(each for member in members for each in exact_types(member))
    return frozenset()


class _Compiler:
    """Compiles one annotation and the annotations of its parts. Classes may contain themselves."""

    def __init__(self, again: Again) -> None:
        self._again = again
        self._known: dict[Any, list[Check]] = {}

    def compile(self, annotation: Any) -> Check:
        if annotation is None or annotation is type(None):
            return check_none
        if _is_any(annotation):
            return check_json
        if _is_among(annotation, EXACT):
            return exactly(annotation)
        if _is_among(annotation, SCALARS):
            return SCALARS[annotation]
        if isinstance(annotation, type) and (check := self._class(annotation)) is not None:
            return check
        return self._generic(annotation)

    def _generic(self, annotation: Any) -> Check:
        if (supertype := getattr(annotation, "__supertype__", None)) is not None:
            return self.compile(supertype)
        origin, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
        if origin is Annotated:
            inner = self.compile(annotation.__origin__)
            is_bare = not any(isinstance(each, msgspec.Meta) for each in annotation.__metadata__)
            return inner if is_bare or inner is check_json else decoded_again(annotation, self._again)
        if origin is Literal:
            return literal(arguments)
        if origin in UNIONS:
            return self._union(annotation, arguments)
        if origin in LISTS:
            return self._items(list, arguments)
        if origin in SETS:
            return self._items(set, arguments)
        if origin is frozenset:
            return self._items(frozenset, arguments)
        if origin is tuple:
            if not arguments or arguments[-1] is Ellipsis:
                return self._items(tuple, arguments)
            return tuple_of([self.compile(each) for each in arguments])
        if origin in DICTS:
            return self._dict(*(arguments or (Any, Any)))
        return decoded_again(annotation, self._again)

    def _class(self, kind: Any) -> Check | None:
        if issubclass(kind, enum.Enum):
            return exactly(kind) if _is_enum(kind) else decoded_again(kind, self._again)
        if typing.is_typeddict(kind):
            return self._typed_dict(kind)
        names: Any = None
        if hasattr(kind, "__dataclass_fields__"):
            names = [f.name for f in dataclasses.fields(kind)]
        elif hasattr(kind, "__struct_fields__"):
            names = kind.__struct_fields__
        elif hasattr(kind, "_fields"):  # a NamedTuple
            names = kind._fields
        if names is None:
            return None
        if getattr(kind, "__parameters__", ()) or hasattr(kind, "__post_init__"):
            return decoded_again(kind, self._again)
        return self._fields(kind, names)

    def _fields(self, kind: type, names: Any) -> Check:
        if kind in self._known:
            known = self._known[kind]
            return lambda value: known[0](value)  # noqa: PLW0108  it is compiled later
        self._known[kind] = []
        try:
            hints = class_hints(kind)
        except (NameError, TypeError):  # msgspec says what is wrong
            return decoded_again(kind, self._again)
        check = fields_of(kind, [(name, self.compile(hints.get(name, Any))) for name in names])
        self._known[kind].append(check)
        return check

    def _typed_dict(self, kind: Any) -> Check:
        try:
            # the decoder does not know what variables of a base stand for, either
            hints = typing.get_type_hints(kind)
        except (NameError, TypeError):  # msgspec says what is wrong
            return decoded_again(kind, self._again)
        return typed_dict_of(
            kind, {name: self.compile(_unwrapped(hint)) for name, hint in hints.items()}, self._again
        )

    def _union(self, annotation: Any, members: tuple[Any, ...]) -> Check:
        checks = [self.compile(each) for each in members]
        # beside Any, the other members say nothing: the decoder does not look at them
        if check_json in checks:
            return check_json
        return union_of(annotation, members, checks)

    def _items(self, kind: type, arguments: tuple[Any, ...]) -> Check:
        item = arguments[0] if arguments else Any
        return items_of(kind, self.compile(item), exact_types(item))

    def _dict(self, key: Any, item: Any) -> Check:
        check = self.compile(item)
        if key in (str, Any):
            return dict_of(check, None, None)
        if _is_among(key, EXACT_KEYS) or _is_enum(key):
            return dict_of(check, self.compile(key), None)
        again = self._again
        return dict_of(check, self.compile(key), lambda keys: again(keys, dict[key, None]))


def _is_any(annotation: Any) -> bool:
    return isinstance(annotation, TypeVar) or annotation in _ANY


def _is_among(annotation: Any, known: Container[Any]) -> bool:
    try:
        return annotation in known
    except TypeError:  # what `Annotated` adds may have no hash
        return False


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, enum.Enum) and not issubclass(kind, enum.Flag)


def _of_new_type(annotation: Any) -> Any:
    """The type behind a NewType, or within `Annotated`."""
    while True:
        if typing.get_origin(annotation) is Annotated:
            annotation = annotation.__origin__
        elif (supertype := getattr(annotation, "__supertype__", None)) is not None:
            annotation = supertype
        else:
            return annotation


def _unwrapped(hint: Any) -> Any:
    """Without `Required`, `NotRequired` and `ReadOnly`."""
    while getattr(typing.get_origin(hint), "_name", "") in {"Required", "NotRequired", "ReadOnly"}:
        (hint,) = typing.get_args(hint)
    return hint
