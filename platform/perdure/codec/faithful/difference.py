"""Compares a value with its decoded form, in value and in type."""

from __future__ import annotations

import dataclasses
import sys
from collections import deque
from collections.abc import Collection
from typing import Any, Final, cast

import msgspec

from perdure.codec.faithful.changed import Changed, other_value

EXACT_FLOATS: Final = 1 << 53
"""A float holds every int up to this exactly."""


def difference(before: Any, after: Any) -> Changed | None:
    """The first difference of two values, in value or type; None: none."""
    if type(before) is not type(after):
        return None if is_same(before, after) else other_value(before, after)
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
        if not _have_same(entries, after):
            return other_value(before, after)
        found = ((f"[{key!r}]", difference(item, after[key])) for key, item in entries.items())
    elif _is(before, set | frozenset):
        members: set[Any] = set(before)
        return None if _have_same(members, after) else other_value(before, after)
    elif (pydantic := sys.modules.get("pydantic")) is not None and isinstance(before, pydantic.BaseModel):
        if before == after:
            return None
        return _difference_of(before, after, _model_fields(before)) or Changed(
            "has private attributes that would be lost"
        )
    else:
        same = before is after or (before == after and repr(before) == repr(after))
        return None if same else other_value(before, after)
    return next((change.within(step) for step, change in found if change is not None), None)


def typed(value: Any) -> tuple[Any, Any]:
    """A key that differs for 1, True and 1.0."""
    kind = cast("Any", type(value))
    return kind, value


def is_same(before: Any, after: Any) -> bool:
    """Whether a decoded scalar is unchanged, in type, too. An int where a float is annotated is
    accepted; only then does an int become a float.
    """
    if type(before) is int and type(after) is float:
        return before == after and -EXACT_FLOATS <= before <= EXACT_FLOATS
    return typed(before) == typed(after)


def _have_same(before: Collection[Any], after: Collection[Any]) -> bool:
    """Whether each decoded member, or key, is unchanged."""
    there = {each: each for each in after}
    return len(before) == len(after) and all(each in there and is_same(each, there[each]) for each in before)


def _difference_of(before: Any, after: Any, names: Any) -> Changed | None:
    for name in names:
        change = difference(getattr(before, name), getattr(after, name))
        if change is not None:
            return change.within(f".{name}")
    return None


def _is(value: object, kinds: Any) -> bool:
    """`isinstance` that leaves the value Any: type checkers know no items otherwise."""
    return isinstance(value, kinds)


def _model_fields(model: Any) -> list[str]:
    kind = cast("Any", type(model))
    return list(kind.model_fields)
