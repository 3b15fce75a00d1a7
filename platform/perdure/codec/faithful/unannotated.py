"""Checks of values whose annotation says nothing, or is not known here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from perdure.codec.faithful.changed import Changed, name_of, short
from perdure.codec.faithful.scalars import check_float


def check_json(value: Any) -> None:
    """Check a value without an annotation: it must consist of JSON's types.

    Raises:
        Changed: something in it is not.
    """
    kind = cast("Any", type(value))
    if kind is str or kind is int or kind is bool or value is None:
        return
    if kind is float:
        check_float(value)
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
                    f"has the key {short(key)}, which would come back as text; annotate it as "
                    f"dict[{name_of(type(key))}, …]"
                )
            try:
                check_json(item)
            except Changed as error:
                raise error.within(f"[{key!r}]") from None
    else:
        raise Changed(
            f"is of type {name_of(kind)}, and its annotation does not say so: it would come back as "
            "something else; annotate it"
        )


def check_unannotated(value: Any) -> None:
    """Check a value whose annotation is not known here: JSON must be able to represent it.

    Args:
        value: of built-in types, as `msgspec.to_builtins` makes them.

    Raises:
        Changed: a number is not finite, or two keys of a dict are the same text.
    """
    if isinstance(value, float):
        check_float(value)
    elif isinstance(value, list | tuple):
        for i, item in enumerate(cast("list[Any]", value)):
            try:
                check_unannotated(item)
            except Changed as error:
                raise error.within(f"[{i}]") from None
    elif isinstance(value, dict):
        named = cast("Mapping[Any, Any]", value)
        if len({str(key) for key in named}) < len(named):
            raise Changed("has two keys with the same text in JSON")
        for key, item in named.items():
            try:
                check_unannotated(item)
            except Changed as error:
                raise error.within(f"[{key!r}]") from None
