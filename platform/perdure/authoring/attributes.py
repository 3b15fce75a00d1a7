"""Attributes that workflow code sets."""

from __future__ import annotations

from math import isfinite
from typing import TypeAlias, cast

from msgspec import json

from perdure.model.limits import NAME_BYTES, is_unicode
from perdure.model.runtime import current, misuse

AttributeValue: TypeAlias = str | int | float | bool | None
_INT64 = range(-(2**63), 2**63)


def set_attributes(**values: AttributeValue) -> None:
    """Set attributes of this run, by which it is found: `client.list(attributes={"region": "eu"})`.
    Those that are not named stay as they are.

    They are recorded plainly, also where a codec encodes payloads. A run that continues as new
    keeps them.

    Args:
        values: text, integers of 64 bits, finite numbers and booleans; None removes one. All of
            the run's attributes together have at most 16 KiB of JSON.

    Raises:
        UsageError: this is not workflow code, it only reads, or a value is something else.
        PayloadError: they would be too large.
    """
    runtime = current()
    if runtime is None:
        raise misuse("workflow.set_attributes is for workflow code; no run is being executed here.")
    for name, value in values.items():
        if fault := _fault(name, value):
            raise misuse(f"workflow.set_attributes: the attribute {name!r} {fault}.")
    if values:
        runtime.set_attributes(json.encode(values))


def _fault(name: str, value: object) -> str:
    if not is_unicode(name) or len(name.encode()) > NAME_BYTES:
        return f"must have a name of at most {NAME_BYTES} bytes"
    kind = cast("object", type(value))
    if kind is str:
        return "" if is_unicode(cast("str", value)) else "is not valid Unicode"
    if kind is int:
        return "" if value in _INT64 else "has more than 64 bits"
    if kind is float:
        return "" if isfinite(cast("float", value)) else f"is {value}, which JSON does not have"
    if value is None or kind is bool:
        return ""
    return f"is {type(value).__name__}; it must be text, a number, true, false or None"
