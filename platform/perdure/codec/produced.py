"""Encodes the values of `workflow.produce`."""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import msgspec

from perdure.codec.foreign import encode_foreign
from perdure.codec.frames import frame
from perdure.codec.values import to_json_of_unknown
from perdure.errors import PayloadError

JSON: Final = b"application/json"
AVRO: Final = b"application/avro"
BYTES: Final = b"application/octet-stream"
_AVRO_TYPES: Final = (bytes, bytearray, datetime, date, time, timedelta, Decimal, UUID)
"""Types for which Avro, or one of its logical types, has its own form."""


def encoded(value: object, avro_schema: str | None, schema_id: int | None) -> tuple[bytes | None, bytes]:
    """The bytes of a value, and their content type.

    Args:
        value: anything with a JSON form; bytes as they are; None: a tombstone.
        avro_schema: encode it by this Avro schema, JSON text.
        schema_id: which a schema registry gave to it: Confluent's frame stands before the Avro.

    Raises:
        PayloadError: it cannot be encoded; the message is what is wrong, without a subject.
    """
    if value is None:
        return None, b""
    if avro_schema is not None:
        return (b"" if schema_id is None else frame(schema_id)) + _to_avro(value, avro_schema), AVRO
    if isinstance(value, bytes):
        return value, BYTES
    return to_json_of_unknown(value), JSON


def _to_avro(value: object, schema: str) -> bytes:
    parsed, named = _parsed(schema)
    target = io.BytesIO()
    try:
        plain = msgspec.to_builtins(value, builtin_types=_AVRO_TYPES, enc_hook=encode_foreign)
        _fastavro().schemaless_writer(target, parsed, _fitted(plain, parsed, named), strict=True)
    except Exception as error:  # noqa: BLE001  fastavro promises nothing about what it raises
        raise PayloadError(f"does not match its Avro schema: {type(error).__name__}: {error}") from None
    return target.getvalue()


def _fitted(value: Any, schema: Any, named: Mapping[str, Any]) -> Any:
    """The value as fastavro wants it for this schema: a date where there is a logical type for it,
    text where there is a string.
    """
    plain: Any = value
    branches: Any = schema
    if isinstance(schema, list):
        return _fitted_to_one(plain, branches, named)
    if isinstance(schema, str):
        return (
            _fitted(value, named[schema], named)
            if schema in named
            else _fitted(value, {"type": schema}, named)
        )
    kind, logical = schema["type"], schema.get("logicalType")
    if not isinstance(kind, str) or kind in named:
        return _fitted(value, kind, named)
    match kind:
        case "record" | "error" if isinstance(value, dict):
            types = {field["name"]: field["type"] for field in schema["fields"]}
            return {
                name: _fitted(each, types[name], named) if name in types else each
                for name, each in plain.items()
            }
        case "array" if isinstance(value, list | tuple | set | frozenset):
            return [_fitted(each, schema["items"], named) for each in plain]
        case "map" if isinstance(value, dict):
            return {str(name): _fitted(each, schema["values"], named) for name, each in plain.items()}
        case "string" if logical is None and isinstance(value, _AVRO_TYPES):
            return msgspec.to_builtins(value)
        case "int" | "long" if isinstance(value, datetime):
            if str(logical).startswith("timestamp") and value.tzinfo is None:
                raise ValueError(f"{value} has no time zone, and {logical} needs one; pass a time in UTC")
            if str(logical).startswith("local-timestamp") and value.tzinfo is not None:
                raise ValueError(f"{value} has a time zone, and {logical} has none")
            return value
        case "bytes" | "fixed" if logical == "decimal" and isinstance(value, int):
            return Decimal(value)
        case "double" | "float" if isinstance(value, Decimal | timedelta):
            raise ValueError(f"{value!r} is not {kind}; use a logical type or a string in the schema")
        case _:
            return value


def _fitted_to_one(value: Any, branches: list[Any], named: Mapping[str, Any]) -> Any:
    """By the first branch of a union that takes it; one with a logical type before a string, which
    takes any date as text.
    """
    if value is None:
        return None
    validate: Any = importlib.import_module("fastavro.validation").validate
    for branch in sorted(
        branches, key=lambda each: 0 if isinstance(each, dict) and "logicalType" in each else 1
    ):
        try:
            fitted = _fitted(value, branch, named)
            resolved = named.get(branch, branch) if isinstance(branch, str) else branch
            if validate(fitted, resolved, raise_errors=False, strict=True):
                return fitted
        except Exception:  # noqa: BLE001, S112  not this one
            continue
    return value


@lru_cache(256)
def _parsed(schema: str) -> tuple[Any, dict[str, Any]]:
    """The schema, and its named types."""
    named: dict[str, Any] = {}
    try:
        return _fastavro().parse_schema(json.loads(schema), named), named
    except ModuleNotFoundError:
        raise PayloadError("cannot be encoded as Avro: pip install 'perdure[kafka]'") from None
    except Exception as error:  # noqa: BLE001  fastavro promises nothing about what it raises
        raise PayloadError(f"cannot be encoded: its Avro schema is invalid: {error}") from None


def _fastavro() -> Any:
    return importlib.import_module("fastavro")
