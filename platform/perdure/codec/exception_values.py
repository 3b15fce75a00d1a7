"""The arguments and attributes of exceptions as JSON that keeps their types.

They have no annotations, and `KeyError(("a", 1))` must not become `KeyError(["a", 1])`. So values
that JSON has are written unchanged, and all others as an object with one key that begins with "$":
`{"$tuple": ["a", 1]}`.
"""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, Final, cast
from uuid import UUID

from perdure.model.limits import is_unicode

_DEEPEST: Final = 20
_LARGEST: Final = 1 << 63


def to_plain(value: Any, depth: int = 0) -> Any:
    """Convert a value to JSON types.

    Args:
        value: of these types, exactly: None, bool, int, float, str, bytes, list, tuple, dict, set,
            frozenset, the types of `datetime`, Decimal, UUID, paths.
        depth: how deep it is in another value.

    Raises:
        TypeError: it is of another type, or nested too deeply.
    """
    kind = cast("Any", type(value))
    if value is None or kind is bool:
        return value
    if depth > _DEEPEST:
        raise TypeError("it is nested too deeply")
    if kind in _PLAIN:
        return _PLAIN[kind](value)
    if kind in _SEQUENCES:
        items = [to_plain(item, depth + 1) for item in value]
        return items if kind is list else {f"${kind.__name__}": items}
    if kind is dict:
        if all(type(key) is str and key[:1] != "$" and is_unicode(key) for key in value):
            return {key: to_plain(item, depth + 1) for key, item in value.items()}
        return {
            "$dict": [[to_plain(key, depth + 1), to_plain(item, depth + 1)] for key, item in value.items()]
        }
    if isinstance(value, PurePath):
        return {"$path": to_plain(str(value))}
    raise TypeError(f"{kind.__qualname__} has no JSON")


def from_plain(value: Any) -> Any:
    """Restore a value from the result of `to_plain`.

    Raises:
        ValueError, TypeError, KeyError: it is damaged.
    """
    named = value
    if isinstance(value, list):
        return [from_plain(item) for item in named]
    if not isinstance(value, dict):
        return named
    if len(named) == 1 and (tag := next(iter(named)))[:1] == "$" and tag in _RESTORED:
        return _RESTORED[tag](named[tag])
    return {key: from_plain(item) for key, item in named.items()}


def _float(value: float) -> Any:
    return value if math.isfinite(value) else {"$float": str(value)}


def _int(value: int) -> Any:
    return value if -_LARGEST <= value < _LARGEST else {"$int": hex(value)}


def _str(value: str) -> Any:
    return value if is_unicode(value) else {"$str": _base64(value.encode("utf-8", "surrogatepass"))}


def _base64(value: bytes) -> str:
    return b64encode(value).decode()


def _timedelta(value: timedelta) -> Any:
    return {"$timedelta": [value.days, value.seconds, value.microseconds]}


_SEQUENCES: Final = (list, tuple, set, frozenset)
_PLAIN: Final[Mapping[type, Callable[[Any], Any]]] = {
    str: _str,
    int: _int,
    float: _float,
    bytes: lambda value: {"$bytes": _base64(value)},
    bytearray: lambda value: {"$bytearray": _base64(bytes(value))},
    datetime: lambda value: {"$datetime": value.isoformat()},
    date: lambda value: {"$date": value.isoformat()},
    time: lambda value: {"$time": value.isoformat()},
    timedelta: _timedelta,
    Decimal: lambda value: {"$Decimal": str(value)},
    UUID: lambda value: {"$UUID": str(value)},
    PurePosixPath: lambda value: {"$PurePosixPath": _str(str(value))},
    PureWindowsPath: lambda value: {"$PureWindowsPath": _str(str(value))},
}
_RESTORED: Final[Mapping[str, Callable[[Any], Any]]] = {
    "$str": lambda value: b64decode(value).decode("utf-8", "surrogatepass"),
    "$int": lambda value: int(value, 16),
    "$float": float,
    "$bytes": b64decode,
    "$bytearray": lambda value: bytearray(b64decode(value)),
    "$tuple": lambda value: tuple(from_plain(value)),
    "$set": lambda value: set(from_plain(value)),
    "$frozenset": lambda value: frozenset(from_plain(value)),
    "$dict": lambda value: {from_plain(key): from_plain(item) for key, item in value},
    "$datetime": datetime.fromisoformat,
    "$date": date.fromisoformat,
    "$time": time.fromisoformat,
    "$timedelta": lambda value: timedelta(*value),
    "$Decimal": Decimal,
    "$UUID": UUID,
    "$path": lambda value: Path(from_plain(value)),
    "$PurePosixPath": lambda value: PurePosixPath(from_plain(value)),
    "$PureWindowsPath": lambda value: PureWindowsPath(from_plain(value)),
}
