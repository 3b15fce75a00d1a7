"""Checks of values without parts. Each raises Changed."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from perdure.codec.faithful.changed import Changed, other_type, short
from perdure.codec.faithful.difference import EXACT_FLOATS, typed

Check = Callable[[Any], None]
"""Raises Changed."""

EXACT: Final = frozenset({bool, int, str, bytes, bytearray, UUID, date, timedelta})
"""Types whose values are unchanged when decoded; subclasses do not count."""
EXACT_KEYS: Final = frozenset({str, int, UUID, date, bytes, timedelta})
"""Types whose keys are unchanged when decoded, and have distinct texts; subclasses do not count."""


def exactly(kind: Any) -> Check:
    """The check for a type whose every value is unchanged when decoded."""

    def check(value: Any) -> None:
        if type(value) is not kind:
            raise other_type(value, kind)

    return check


def literal(values: tuple[Any, ...]) -> Check:
    """The check for `Literal`."""
    known = frozenset(map(typed, values))
    kinds = frozenset(map(type, values))  # asked first: a list, for one, has no hash

    def check(value: Any) -> None:
        if type(value) not in kinds or typed(value) not in known:
            raise Changed(f"is {short(value)}, which must be one of {', '.join(map(repr, values))}")

    return check


def check_none(value: Any) -> None:
    """Check for None."""
    if value is not None:
        raise other_type(value, type(None))


def check_float(value: Any) -> None:
    """Check for a float, or an int that a float holds exactly."""
    if type(value) is float:
        if not math.isfinite(value):
            raise Changed(f"is {value}, which has no JSON")
    elif type(value) is not int or not -EXACT_FLOATS <= value <= EXACT_FLOATS:
        raise other_type(value, float)


def _check_decimal(value: Any) -> None:
    if type(value) is not Decimal:
        raise other_type(value, Decimal)
    if value.is_nan():
        raise Changed(f"is {value}, which does not even equal itself")


def _check_datetime(value: Any) -> None:
    if type(value) is not datetime:
        raise other_type(value, datetime)
    if value.tzinfo is not None or value.fold:
        _check_zone(value)


def _check_time(value: Any) -> None:
    if type(value) is not time:
        raise other_type(value, time)
    if value.tzinfo is not None or value.fold:
        _check_zone(value)


def _check_zone(value: Any) -> None:
    zone = value.tzinfo
    if zone is not None and type(zone) is not timezone and str(zone) != "UTC":
        raise Changed(
            f"is in the time zone {zone}, of which only the offset would come back; pass .astimezone(UTC), "
            "and the name beside it"
        )
    if value.fold:
        raise Changed("has fold=1, which would be lost; pass a time in UTC")
    offset = value.utcoffset()
    if offset is not None and offset % timedelta(minutes=1):
        raise Changed(f"has the UTC offset {offset}, of which the seconds would be lost; pass a time in UTC")


SCALARS: Final[Mapping[Any, Check]] = types.MappingProxyType(
    {float: check_float, Decimal: _check_decimal, datetime: _check_datetime, time: _check_time}
)
