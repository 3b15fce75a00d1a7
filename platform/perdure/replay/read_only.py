"""Finds what a query, a view or a validator has changed, although it may only read: a replay does
not call it, so the run would continue from a state that its history does not lead to.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

from perdure.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sized

    from perdure.replay.loop import RunLoop

_SIZED: Final = frozenset((list, dict, set, deque, bytearray))
_GONE: Final = object()
Attributes = list[tuple[str, Any, int]]


def reading(
    loop: RunLoop, instance: Any, evaluate: Callable[..., Any], function: Callable[..., Any], *args: Any
) -> Any:
    """Evaluate a function of yours; a replay undoes what it has changed (`RunLoop.is_spoilt`).

    Seen are attributes of the instance that were set again or deleted, and lists, dicts and sets
    that have grown or shrunk; not what is deeper. A new one, such as a cached property, is allowed.

    Raises:
        UsageError: it has changed an attribute.
        BaseException: what the function raised.
    """
    held = cast("dict[str, Any]", getattr(instance, "__dict__", {}))
    before = _attributes(held)
    try:
        value = evaluate(loop, function, *args)
    except BaseException:
        loop.is_spoilt = loop.is_spoilt or bool(_changed(held, before))
        raise
    if changed := _changed(held, before):
        loop.is_spoilt = True
        raise UsageError(
            f"it has changed self.{changed}: a query, a view and a validator may only read, since a replay "
            "does not call them. Change the state in a signal or an update."
        )
    return value


def _attributes(held: dict[str, Any]) -> Attributes:
    return [
        (name, value, len(cast("Sized", value)) if type(value) in _SIZED else 0)
        for name, value in held.items()
    ]


def _changed(held: dict[str, Any], before: Attributes) -> str:
    """The first attribute that has changed; empty: none."""
    for name, value, size in before:
        if held.get(name, _GONE) is not value or (type(value) in _SIZED and len(value) != size):
            return name
    return ""
