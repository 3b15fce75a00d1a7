"""Context values: small facts, such as a tenant, that go with a request wherever it leads.

    with context.use(tenant="acme"):
        await client.start("order-1", Order.process, "burrata")

    context.get("tenant")           # in the workflow, its activities, its steps and its children

A run keeps the context that it was started with: its code, activities, steps and children, and the
runs that continue it, read the same values, on replay too. A record of another system that starts a
run brings it in the header `perdure-context`, as JSON of an object; so do a request of the HTTP API
and the records that workflow code produces.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Final, cast

import msgspec

from perdure.errors import PayloadError
from perdure.model.limits import fault_of_context
from perdure.model.runtime import current as current_runtime
from perdure.model.runtime import misuse

__all__ = ["HEADER", "current", "get", "use"]

HEADER: Final = "perdure-context"
"""Of a record, or of a request over HTTP."""
_NONE: Final[Mapping[str, Any]] = MappingProxyType({})
_values: Final[ContextVar[Mapping[str, Any]]] = ContextVar("perdure.context", default=_NONE)


def current() -> Mapping[str, Any]:
    """All context values here, by name; read only."""
    return _values.get()


def get(name: str, default: Any = None) -> Any:
    """One context value.

    Args:
        name: as it was set.
        default: where it was not.
    """
    return _values.get().get(name, default)


@contextmanager
def use(**values: Any) -> Generator[None]:
    """Requests made within have these context values, besides those that are set already.

    Args:
        values: by name: text, numbers, booleans, None, and lists and dicts of them; altogether at
            most 4 KiB of JSON.

    Raises:
        PayloadError: one has no JSON form, or they are too large; no request was made.
        UsageError: in workflow code, whose context is that of its start.
    """
    if current_runtime() is not None:
        raise misuse("the context of a run is that of its start: pass values of the workflow as arguments")
    merged = {**_values.get(), **values}
    encoded(merged)
    token = _values.set(MappingProxyType(merged))
    try:
        yield
    finally:
        _values.reset(token)


def encoded(values: Mapping[str, Any]) -> bytes:
    """Context values as JSON of an object; empty when there are none.

    Raises:
        PayloadError: one has no JSON form, or they are too large.
    """
    if not values:
        return b""
    for name, value in values.items():
        if fault := _fault_of(value):
            raise PayloadError(
                f"the context value {name!r} {fault}; use text, numbers, booleans, None, lists and dicts"
            )
    data = msgspec.json.encode(dict(values))
    if fault := fault_of_context(data):
        raise PayloadError(fault)
    return data


def decoded(data: bytes) -> Mapping[str, Any]:
    """The values of a recorded context."""
    return MappingProxyType(msgspec.json.decode(data)) if data else _NONE


def here() -> bytes:
    """The context of this place, for a request that is made here."""
    values = _values.get()
    return encoded(values) if values else b""


def enter(data: bytes) -> None:
    """Have a recorded context from here on, in this task or thread."""
    if data or _values.get():
        _values.set(decoded(data))


def _fault_of(value: Any) -> str:
    """Why a value would not come back as it is; empty: it does."""
    try:
        again = msgspec.json.decode(msgspec.json.encode(value))
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        return f"has no JSON form: {error}"
    return "" if _is_same(value, again) else f"is {value!r:.80}, which JSON gives back as {again!r:.80}"


def _is_same(value: Any, again: Any) -> bool:
    kind = cast("object", type(value))
    if kind is not type(again):
        return False
    if kind is list:
        return len(value) == len(again) and all(map(_is_same, value, again))
    if kind is dict:
        return list(value) == list(again) and all(_is_same(value[key], again[key]) for key in value)
    return bool(value == again)
