"""Builds checks of values with parts from the checks of their parts.

The checks raise Changed, with the path to the part that would change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, cast

from perdure.codec.faithful.changed import Changed, other_type, short
from perdure.codec.faithful.difference import difference, is_same
from perdure.codec.faithful.scalars import Check, exactly
from perdure.errors import PayloadError

Again = Callable[[Any, Any], Any]
"""Encodes a value and decodes it by an annotation. Raises PayloadError when that does not work."""


def items_of(kind: type, inner: Check, exact: Collection[type[Any]]) -> Check:
    """The check of a list, a set or a tuple of any length.

    Args:
        kind: of the collection.
        inner: the check of an item.
        exact: types whose every value passes `inner`.
    """
    all_exact = frozenset(exact).issuperset

    def check(value: Any) -> None:
        items: Iterable[Any] = value
        if type(value) is not kind:
            raise other_type(value, kind)
        if all_exact(map(type, items)):
            return
        i = 0
        try:
            for i, each in enumerate(items):  # noqa: B007  for the path
                inner(each)
        except Changed as error:
            raise error.within(f"[{i}]") from None

    return check


def tuple_of(checks: list[Check]) -> Check:
    """The check of a tuple with a type for each item."""

    def check(value: Any) -> None:
        items: tuple[Any, ...] = value
        if type(value) is not tuple or len(items) != len(checks):
            raise other_type(value, tuple)
        for i, (inner, each) in enumerate(zip(checks, items, strict=True)):
            try:
                inner(each)
            except Changed as error:
                raise error.within(f"[{i}]") from None

    return check


def dict_of(
    item: Check, key: Check | None, read_keys: Callable[[dict[Any, None]], Mapping[Any, None]] | None
) -> Check:
    """The check of a dict.

    Args:
        item: the check of an item.
        key: the check of a key; None: keys are text.
        read_keys: encodes and decodes the keys; None if they cannot change.
    """
    check_key = key or exactly(str)

    def check(value: Any) -> None:
        named: Any = value
        if type(value) is not dict:
            raise other_type(value, dict)
        for each, inner in named.items():
            try:
                check_key(each)
            except Changed as error:
                raise Changed(f"has the key {short(each)}: that {error}") from None
            try:
                item(inner)
            except Changed as error:
                raise error.within(f"[{each!r}]") from None
        if read_keys is not None and named:
            keys = read_keys(dict.fromkeys(named, None))
            if len(keys) != len(named) or not all(map(is_same, named, keys)):
                raise Changed(
                    "has keys that would come back changed, or have the same text in JSON: "
                    f"{short(list(named))}"
                )

    return check


def fields_of(kind: type, checks: list[tuple[str, Check]]) -> Check:
    """The check of a class with named fields.

    Args:
        kind: a dataclass, a NamedTuple or a msgspec Struct.
        checks: by field, in order.
    """

    def check(value: Any) -> None:
        if type(value) is not kind:
            raise other_type(value, kind)
        name = ""
        try:
            for name, field in checks:
                field(getattr(value, name))
        except Changed as error:
            raise error.within(f".{name}") from None
        except AttributeError:
            if hasattr(value, name):
                raise
            raise Changed(f"has no value for the field {name!r}; give it one, or a default") from None

    return check


def typed_dict_of(kind: type, checks: Mapping[str, Check], again: Again) -> Check:
    """The check of a TypedDict.

    Args:
        kind: of the dict.
        checks: by key.
        again: says whether a key that is missing is required.
    """

    def check(value: Any) -> None:
        named: Any = value
        if type(value) is not dict:
            raise other_type(value, dict)
        if len(named) < len(checks):
            again(named, kind)
        for key, item in named.items():
            if key not in checks:
                raise Changed(
                    f"has the key {short(key)}, which {kind.__qualname__} does not have: it would be lost"
                )
            try:
                checks[key](item)
            except Changed as error:
                raise error.within(f"[{key!r}]") from None

    return check


def union_of(annotation: Any, members: Iterable[Any], checks: list[Check]) -> Check:
    """The check of a union.

    Args:
        annotation: for the message.
        members: of the union.
        checks: of each member.
    """
    pairs = list(zip(members, checks, strict=True))
    by_type = {member: check for member, check in pairs if isinstance(member, type)}
    is_optional = type(None) in by_type
    others = [check for member, check in pairs if member is not type(None)]
    only = others[0] if len(others) == 1 else None

    def check(value: Any) -> None:
        if value is None and is_optional:
            return
        if only is not None:
            only(value)
            return
        exact = by_type.get(cast("Any", type(value)))
        if exact is not None:
            exact(value)
            return
        for other in others:
            try:
                other(value)
            except (Changed, PayloadError):
                continue
            return
        raise other_type(value, annotation)

    return check


def decoded_again(annotation: Any, again: Again) -> Check:
    """The check that encodes a value, decodes it and compares: for types that cannot be checked in
    advance.
    """

    def check(value: Any) -> None:
        if getattr(value, "maxlen", None) is not None and isinstance(value, deque):
            raise Changed("has a maximum length, which would be lost")
        change = difference(value, again(value, annotation))
        if change is not None:
            raise change

    return check
