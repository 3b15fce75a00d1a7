"""Messages of msgspec about JSON that does not fit; and annotations that crash the process inside
msgspec 0.22, wherever they stand in a type.

A union that has a constraint (`msgspec.Meta`) beside a tuple of fixed length, or a pattern beside
any array or object, is read at the wrong place when it is decoded or freed: a segmentation fault.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin

import msgspec

from perdure.codec.foreign import Misfit
from perdure.model.generics import class_hints

_AT: Final = re.compile(r" - at `(?:key in )?\$(.*)`$", re.DOTALL)
_UNIONS: Final = (Union, types.UnionType)
_RECORDS: Final = ("__dataclass_fields__", "__struct_fields__", "_fields", "__attrs_attrs__")
_SCALARS: Final = (types.NoneType, bool, int, float, str, bytes, bytearray)


def words_of(error: msgspec.MsgspecError) -> tuple[str, str]:
    """The fault, and the path to the faulty part: "expected int, got str" and ".cents".

    Args:
        error: of a decoder.
    """
    text, path = str(error), ""
    if match := _AT.search(text):
        text, path = text[: match.start()], match[1]
    words = text.replace("`", "")
    words = words[:1].lower() + words[1:]
    words = words.replace("object missing", "is missing", 1)  # a subject comes before it
    if words == "expected float, got null":
        words += " (what NaN and infinity become: they have no JSON)"
    if isinstance(error.__cause__, Misfit):
        words, path = error.__cause__.fault, path + error.__cause__.path
    return words, path


def crash_of(annotation: Any) -> str:
    """The part of an annotation that would crash msgspec, for messages; empty: none.

    Args:
        annotation: resolved. Fields of dataclasses, NamedTuples, TypedDicts and Structs in it are
            looked at, too.
    """
    todo: list[Any] = [annotation]
    seen: dict[int, Any] = {}
    while todo:
        each = todo.pop()
        if id(each) in seen:
            continue
        seen[id(each)] = each  # keeps it, and with it its id
        if len(seen) > _MOST:
            break
        members = list(_members(each, ()))
        if fault := _fault_of([metas for _, metas in members], [member for member, _ in members]):
            return fault
        for member, _ in members:
            # The fields of a recursive class have new unions each time that they are resolved.
            if member is each or id(member) not in seen:
                seen[id(member)] = member
                todo += _parts(member)
    return ""


_MOST: Final = 20_000
"""Parts that are looked at; only a type that makes ever new types has more."""


def _members(
    annotation: Any, metas: tuple[msgspec.Meta, ...]
) -> Iterator[tuple[Any, tuple[msgspec.Meta, ...]]]:
    """The alternatives of an annotation, each with the constraints on it; through names for types,
    unions of unions and what surrounds them.
    """
    origin = get_origin(annotation)
    if origin is Annotated:
        own = tuple(each for each in annotation.__metadata__ if isinstance(each, msgspec.Meta))
        yield from _members(annotation.__origin__, metas + own)
    elif origin in _UNIONS:
        for each in get_args(annotation):
            yield from _members(each, metas)
    elif (supertype := getattr(annotation, "__supertype__", None)) is not None:
        yield from _members(supertype, metas)
    elif isinstance(annotation, TypeVar):
        for each in (annotation.__bound__, *annotation.__constraints__):
            if each is not None:
                yield from _members(each, metas)
    elif (value := _aliased(annotation, origin)) is not None:
        yield from _members(value, metas)
    elif getattr(origin, "_name", "") in {"Required", "NotRequired", "ReadOnly", "Final", "ClassVar"}:
        yield from _members(get_args(annotation)[0], metas)
    else:
        yield annotation, metas


def _aliased(annotation: Any, origin: Any) -> Any:
    """The value of a `type Name = …` alias; None if it is not one."""
    alias = annotation if origin is None else origin
    if type(alias).__name__ != "TypeAliasType":
        return None
    value, arguments = alias.__value__, get_args(annotation)
    return value[arguments] if arguments and getattr(value, "__parameters__", ()) else value


def _fault_of(metas: list[tuple[msgspec.Meta, ...]], members: list[Any]) -> str:
    said = [meta for each in metas for meta in each]
    if len(members) < 2 or not said:
        return ""
    if any(_is_fixed_tuple(each) for each in members):
        return (
            "a constraint (msgspec.Meta) and a tuple of fixed length in one union; put the tuple into a "
            "dataclass"
        )
    if any(meta.pattern is not None for meta in said) and any(map(_is_container, members)):
        return (
            "a pattern (msgspec.Meta) and a list, set, tuple or dict in one union; put one of them into a "
            "dataclass"
        )
    return ""


def _is_fixed_tuple(annotation: Any) -> bool:
    return get_origin(annotation) is tuple and Ellipsis not in get_args(annotation)


def _is_container(annotation: Any) -> bool:
    """Whether it may be one: what is not known to be none."""
    if get_origin(annotation) is not None:
        return get_origin(annotation) is not typing.Literal
    kind: Any = annotation
    return isinstance(kind, type) and kind not in _SCALARS and not _is_record(annotation)


def _is_record(kind: Any) -> bool:
    return any(hasattr(kind, name) for name in (*_RECORDS, "__total__", "__members__", "hex"))


def _parts(annotation: Any) -> list[Any]:
    """Arguments of an annotation, and the fields of its class."""
    found = list(get_args(annotation)) if get_origin(annotation) is not typing.Literal else []
    kind: Any = get_origin(annotation) or annotation
    if isinstance(kind, type) and _has_fields(get_origin(annotation) or annotation):
        with suppress(NameError, TypeError):  # msgspec says what is wrong
            found += class_hints(annotation).values()
    return found


def _has_fields(kind: Any) -> bool:
    return typing.is_typeddict(kind) or any(hasattr(kind, name) for name in _RECORDS)
