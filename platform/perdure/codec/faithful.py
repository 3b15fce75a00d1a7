"""Whether a value comes back as it is when it is encoded and decoded by its annotation.

JSON has fewer types than Python: a tuple under `Any` comes back as a list, a subclass of a dataclass as its base class, and of
`{1: "a", "1": "b"}` as `dict[int | str, str]` one entry remains. Such values are refused where they are encoded, so that code does the same
with a value as with what is recorded of it. A check is compiled once for each annotation; most of it compares types. What cannot be told in
advance (pydantic models, classes with `__post_init__`, constraints) is decoded again and compared.

One exception: an int where a float is expected is taken, as type checkers take it.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import sys
import types
import typing
from collections import abc, deque
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from inspect import Parameter
from typing import Any, Final, Literal, NoReturn, TypeVar, cast
from uuid import UUID

import msgspec

from perdure.errors import PayloadError
from perdure.model.generics import class_hints

Check = Callable[[Any], object]
"""Raises Changed."""

_EXACT: Final = frozenset({bool, int, str, bytes, bytearray, UUID, date})
"""What is the same type, is the same value."""
_LISTS: Final = frozenset({list, abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable, abc.Container, abc.Reversible})
_SETS: Final = frozenset({set, abc.Set, abc.MutableSet})
_DICTS: Final = frozenset({dict, abc.Mapping, abc.MutableMapping})
_EXACT_FLOATS: Final = 1 << 53


class Changed(Exception):
    """A value would not come back as it is.

    Attributes:
        path: to the part of it, as in `.items[0]`.
        fault: what is wrong with that part, without a subject.
    """

    def __init__(self, fault: str, path: str = "") -> None:
        super().__init__(fault)
        self.fault = fault
        self.path = path

    def within(self, step: str) -> Changed:
        """Add a step to the front of the path."""
        self.path = step + self.path
        return self

    def __str__(self) -> str:
        return f"{self.fault}, at {self.path}" if self.path else self.fault


def check_of(annotation: Any, again: Callable[[Any, Any], Any]) -> Check:
    """Compile the check for values of an annotation.

    Args:
        annotation: resolved, and one that can be decoded.
        again: encodes a value and decodes it by an annotation. Raises PayloadError when that does not work.
    """
    return _Compiler(again).compile(annotation)


def check_json(value: Any) -> None:
    """For values without an annotation: they must be what JSON has.

    Raises:
        Changed: something in it is not.
    """
    kind = cast("Any", type(value))
    if kind is str or kind is int or kind is bool or value is None:
        return
    if kind is float:
        _check_float(value)
    elif kind is list:
        for i, item in enumerate(value):
            try:
                check_json(item)
            except Changed as error:
                raise error.within(f"[{i}]") from None
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise Changed(
                    f"has the key {_short(key)}, which would come back as text; annotate it as dict[{_name(type(key))}, …]"
                )
            try:
                check_json(item)
            except Changed as error:
                raise error.within(f"[{key!r}]") from None
    else:
        raise Changed(
            f"is of type {_name(kind)}, and its annotation does not say so: it would come back as something else; annotate it"
        )


def check_unannotated(value: Any) -> None:
    """For values whose annotation is not known here: what JSON cannot even show.

    Args:
        value: of built-in types, as `msgspec.to_builtins` makes them.

    Raises:
        Changed: a number is none, or two keys of a dict look alike.
    """
    if isinstance(value, float):
        _check_float(value)
    elif _is(value, list | tuple):
        for i, item in enumerate(cast("list[Any]", value)):
            try:
                check_unannotated(item)
            except Changed as error:
                raise error.within(f"[{i}]") from None
    elif _is(value, dict):
        named: Any = value
        if len({str(key) for key in named}) < len(named):
            raise Changed("has two keys that are the same text in JSON")
        for key, item in named.items():
            try:
                check_unannotated(item)
            except Changed as error:
                raise error.within(f"[{key!r}]") from None


def difference(before: Any, after: Any) -> Changed | None:
    """Where two values differ, in value or type; None where they do not."""
    if type(before) is not type(after):
        return Changed(_as(before, after))
    if hasattr(before, "__dataclass_fields__"):
        return _difference_of(before, after, [f.name for f in dataclasses.fields(before)])
    if isinstance(before, msgspec.Struct):
        return _difference_of(before, after, before.__struct_fields__)
    if _is(before, list | tuple | deque):
        if len(before) != len(after):
            return Changed(f"has {len(before)} items and would come back with {len(after)}")
        pairs = zip(cast("list[Any]", before), cast("list[Any]", after), strict=True)
        found = ((f"[{i}]", difference(one, other)) for i, (one, other) in enumerate(pairs))
    elif _is(before, dict):
        entries: dict[Any, Any] = before
        if set(map(_typed, entries)) != set(map(_typed, after)):
            return Changed(_as(before, after))
        found = ((f"[{key!r}]", difference(item, after[key])) for key, item in entries.items())
    elif _is(before, set | frozenset):
        members: set[Any] = set(before)
        return None if set(map(_typed, members)) == set(map(_typed, after)) else Changed(_as(before, after))
    elif (pydantic := sys.modules.get("pydantic")) is not None and isinstance(before, pydantic.BaseModel):
        if before == after:
            return None
        return _difference_of(before, after, _model_fields(before)) or Changed("has private attributes that would be lost")
    else:
        same = before is after or (before == after and repr(before) == repr(after))
        return None if same else Changed(_as(before, after))
    return next((change.within(step) for step, change in found if change is not None), None)


def _difference_of(before: Any, after: Any, names: Any) -> Changed | None:
    for name in names:
        change = difference(getattr(before, name), getattr(after, name))
        if change is not None:
            return change.within(f".{name}")
    return None


class _Compiler:
    """One annotation, and those it consists of; classes that contain themselves are found again."""

    def __init__(self, again: Callable[[Any, Any], Any]) -> None:
        self._again = again
        self._known: dict[Any, list[Check]] = {}

    def compile(self, annotation: Any) -> Check:
        if annotation is None or annotation is type(None):
            return _check_none
        if isinstance(annotation, TypeVar) or annotation in (Any, object, Parameter.empty, NoReturn, typing.Never):
            return check_json
        if annotation in _EXACT:
            return _exactly(annotation)
        if annotation in _SCALARS:
            return _SCALARS[annotation]
        if isinstance(annotation, type) and (check := self._class(annotation)) is not None:
            return check
        return self._generic(annotation)

    def _generic(self, annotation: Any) -> Check:
        if (supertype := getattr(annotation, "__supertype__", None)) is not None:
            return self.compile(supertype)
        origin, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
        if origin is Literal:
            return _literal(arguments)
        if origin is typing.Union or origin is types.UnionType:
            return self._union(annotation, arguments)
        if origin in _LISTS:
            return self._items(list, arguments[0] if arguments else Any)
        if origin in _SETS:
            return self._items(set, arguments[0] if arguments else Any)
        if origin is frozenset:
            return self._items(frozenset, arguments[0] if arguments else Any)
        if origin is tuple:
            if len(arguments) == 2 and arguments[1] is Ellipsis:
                return self._items(tuple, arguments[0])
            return self._tuple(arguments) if arguments else self._items(tuple, Any)
        if origin in _DICTS:
            return self._dict(annotation, *(arguments or (Any, Any)))
        return self._decoded_again(annotation)

    def _class(self, kind: Any) -> Check | None:
        if issubclass(kind, enum.Enum):
            return self._decoded_again(kind) if issubclass(kind, enum.Flag) else _exactly(kind)
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
            return self._decoded_again(kind)
        return self._fields(kind, names)

    def _fields(self, kind: type, names: Any) -> Check:
        if kind in self._known:
            known = self._known[kind]
            return lambda value: known[0](value)  # noqa: PLW0108  it is compiled later
        self._known[kind] = []
        try:
            hints = class_hints(kind)
        except (NameError, TypeError):  # msgspec says what is wrong
            return self._decoded_again(kind)
        checks = [(name, self.compile(hints.get(name, Any))) for name in names]

        def check(value: Any) -> None:
            if type(value) is not kind:
                raise Changed(_instead(value, kind))
            name = ""
            try:
                for name, field in checks:
                    field(getattr(value, name))
            except Changed as error:
                raise error.within(f".{name}") from None

        self._known[kind].append(check)
        return check

    def _typed_dict(self, kind: Any) -> Check:
        try:
            hints = typing.get_type_hints(kind)  # the decoder does not know what variables of a base stand for, either
        except (NameError, TypeError):  # msgspec says what is wrong
            return self._decoded_again(kind)
        checks = {name: self.compile(_unwrapped(hint)) for name, hint in hints.items()}
        again = self._again

        def check(value: Any) -> None:
            named: Any = value
            if type(value) is not dict:
                raise Changed(_instead(value, dict))
            if len(named) < len(checks):
                again(named, kind)  # is a key missing that is required?
            for key, item in named.items():
                if key not in checks:
                    raise Changed(f"has the key {_short(key)}, which {kind.__qualname__} does not have: it would be lost")
                try:
                    checks[key](item)
                except Changed as error:
                    raise error.within(f"[{key!r}]") from None

        return check

    def _union(self, annotation: Any, arguments: tuple[Any, ...]) -> Check:
        checks = [self.compile(each) for each in arguments]
        if check_json in checks:  # beside Any, the other members say nothing: the decoder does not look at them
            return check_json
        by_type = {type(None) if each is None else each: check for each, check in zip(arguments, checks, strict=True)}
        first = [check for each, check in zip(arguments, checks, strict=True) if each is not type(None)]
        only = first[0] if len(first) == 1 else None
        is_optional = type(None) in arguments

        def check_union(value: Any) -> None:
            if value is None and is_optional:
                return
            if only is not None:
                only(value)
                return
            exact = by_type.get(cast("Any", type(value)))
            if exact is not None:
                exact(value)
                return
            for check in first:
                try:
                    check(value)
                except (Changed, PayloadError):
                    continue
                return
            raise Changed(_instead(value, annotation))

        return check_union

    def _items(self, kind: Any, item: Any) -> Check:
        inner = self.compile(item)
        scalar = item if item in _EXACT else None

        def check(value: Any) -> None:
            if type(value) is not kind:
                raise Changed(_instead(value, kind))
            if scalar is not None and set(map(type, value)) <= {scalar}:
                return
            i = 0
            try:
                for i, each in enumerate(value):  # noqa: B007  for the path
                    inner(each)
            except Changed as error:
                raise error.within(f"[{i}]") from None

        return check

    def _tuple(self, arguments: tuple[Any, ...]) -> Check:
        checks = [self.compile(each) for each in arguments]

        def check(value: Any) -> None:
            items: tuple[Any, ...] = value
            if type(value) is not tuple or len(items) != len(checks):
                raise Changed(_instead(value, tuple))
            for i, (inner, each) in enumerate(zip(checks, items, strict=True)):
                try:
                    inner(each)
                except Changed as error:
                    raise error.within(f"[{i}]") from None

        return check

    def _dict(self, annotation: Any, key_hint: Any, item_hint: Any) -> Check:
        item = self.compile(item_hint)
        is_plain = key_hint in (str, Any)
        key = _exactly(str) if is_plain else self.compile(key_hint)
        again = None if is_plain or key_hint in _EXACT_KEYS or _is_enum(key_hint) else self._again

        def check(value: Any) -> None:
            named: Any = value
            if type(value) is not dict:
                raise Changed(_instead(value, dict))
            for each, inner in named.items():
                try:
                    key(each)
                except Changed as error:
                    raise Changed(f"has the key {_short(each)}: that {error}") from None
                try:
                    item(inner)
                except Changed as error:
                    raise error.within(f"[{each!r}]") from None
            if again is not None and named:
                keys = again(dict.fromkeys(named, None), dict[key_hint, None])
                if list(map(_typed, keys)) != list(map(_typed, named)):
                    raise Changed(f"has keys that would come back as others, or are the same text in JSON: {_short(list(named))}")

        return check

    def _decoded_again(self, annotation: Any) -> Check:
        again = self._again

        def check(value: Any) -> None:
            if getattr(value, "maxlen", None) is not None and isinstance(value, deque):
                raise Changed("has a maximum length, which would be lost")
            change = difference(value, again(value, annotation))
            if change is not None:
                raise change

        return check


# ---- scalars


def _exactly(kind: Any) -> Check:
    def check(value: Any) -> None:
        if type(value) is not kind:
            raise Changed(_instead(value, kind))

    return check


def _literal(values: tuple[Any, ...]) -> Check:
    known = frozenset(map(_typed, values))

    def check(value: Any) -> None:
        if _typed(value) not in known:
            raise Changed(f"is {_short(value)}, which is none of {', '.join(map(repr, values))}")

    return check


def _check_none(value: Any) -> None:
    if value is not None:
        raise Changed(_instead(value, type(None)))


def _check_float(value: Any) -> None:
    if type(value) is float:
        if not math.isfinite(value):
            raise Changed(f"is {value}, which has no JSON")
    elif type(value) is not int or not -_EXACT_FLOATS <= value <= _EXACT_FLOATS:
        raise Changed(_instead(value, float))


def _check_decimal(value: Any) -> None:
    if type(value) is not Decimal:
        raise Changed(_instead(value, Decimal))
    if value.is_nan():
        raise Changed(f"is {value}, which does not even equal itself")


def _check_datetime(value: Any) -> None:
    if type(value) is not datetime:
        raise Changed(_instead(value, datetime))
    if value.tzinfo is not None or value.fold:
        _check_zone(value)


def _check_time(value: Any) -> None:
    if type(value) is not time:
        raise Changed(_instead(value, time))
    if value.tzinfo is not None or value.fold:
        _check_zone(value)


def _check_zone(value: Any) -> None:
    zone = value.tzinfo
    if zone is not None and type(zone) is not timezone and str(zone) != "UTC":
        raise Changed(
            f"is in the time zone {zone}, of which only the offset would come back; pass .astimezone(UTC), and the name beside it"
        )
    if value.fold:
        raise Changed("has fold=1, which would be lost; pass a time in UTC")
    offset = value.utcoffset()
    if offset is not None and offset % timedelta(minutes=1):
        raise Changed(f"has the UTC offset {offset}, of which the seconds would be lost; pass a time in UTC")


def _check_timedelta(value: Any) -> None:
    if type(value) is not timedelta:
        raise Changed(_instead(value, timedelta))


_SCALARS: Final[Mapping[Any, Check]] = types.MappingProxyType(
    {
        float: _check_float,
        Decimal: _check_decimal,
        datetime: _check_datetime,
        time: _check_time,
        timedelta: _check_timedelta,
    }
)
_EXACT_KEYS: Final = frozenset({str, int, UUID, date, bytes, timedelta})


# ---- words


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, enum.Enum) and not issubclass(kind, enum.Flag)


def _typed(value: Any) -> tuple[Any, Any]:
    kind = cast("Any", type(value))
    return kind, value


def _is(value: object, kinds: Any) -> bool:
    """`isinstance` that leaves the value Any: type checkers know no items otherwise."""
    return isinstance(value, kinds)


def _model_fields(model: Any) -> list[str]:
    kind = cast("Any", type(model))
    return list(kind.model_fields)


def _unwrapped(hint: Any) -> Any:
    """Without `Required`, `NotRequired` and `ReadOnly`."""
    while getattr(typing.get_origin(hint), "_name", "") in {"Required", "NotRequired", "ReadOnly"}:
        (hint,) = typing.get_args(hint)
    return hint


def _instead(value: Any, kind: Any) -> str:
    if hasattr(value, "get_secret_value"):
        return _HIDDEN
    return f"is {_a(value)}, its annotation says {_name(kind)}"


_HIDDEN: Final = "is a secret, which payloads would record; pass a name by which the activity finds it, or text and a payload codec that encrypts"


def _as(before: Any, after: Any) -> str:
    if hasattr(before, "get_secret_value"):
        return _HIDDEN
    if type(before) is not type(after):
        return f"is {_a(before)} and would come back as {_a(after)}"
    return f"is {_short(before)} and would come back as {_short(after)}"


def _a(value: Any) -> str:
    return "None" if value is None else f"of type {_name(type(value))}"


def _name(kind: Any) -> str:
    return kind.__qualname__ if isinstance(kind, type) else str(kind).replace("typing.", "")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
