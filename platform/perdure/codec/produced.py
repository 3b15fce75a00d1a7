"""What `workflow.produce` sends: a value as bytes, and what kind they are."""

from __future__ import annotations

import importlib
import io
import json
from functools import lru_cache
from typing import Any, Final, cast

from perdure.codec.frames import frame
from perdure.codec.values import to_json
from perdure.errors import PayloadError

JSON: Final = b"application/json"
AVRO: Final = b"application/avro"
BYTES: Final = b"application/octet-stream"


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
    return to_json(value), JSON


def _to_avro(value: object, schema: str) -> bytes:
    parsed = _parsed(schema)
    is_plain = isinstance(value, dict | list | str | int | float)
    plain: Any = cast("Any", value) if is_plain else json.loads(to_json(value))
    target = io.BytesIO()
    try:
        _fastavro().schemaless_writer(target, parsed, plain, strict=True)
    except Exception as error:  # noqa: BLE001  fastavro promises nothing about what it raises
        raise PayloadError(f"does not fit its Avro schema: {type(error).__name__}: {error}") from None
    return target.getvalue()


@lru_cache(256)
def _parsed(schema: str) -> Any:
    try:
        return _fastavro().parse_schema(json.loads(schema))
    except ModuleNotFoundError:
        raise PayloadError("cannot be encoded as Avro: pip install 'perdure[kafka]'") from None
    except Exception as error:  # noqa: BLE001  fastavro promises nothing about what it raises
        raise PayloadError(f"cannot be encoded: its Avro schema is none: {error}") from None


def _fastavro() -> Any:
    return importlib.import_module("fastavro")
