"""Records to values, by the type that a trigger asks for."""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, get_origin

import msgspec

from perdure.codec.foreign import decode_foreign
from perdure.codec.values import decodable, from_json
from perdure.errors import PayloadError
from perdure.triggers.cloudevents import CloudEvent, parts_of

if TYPE_CHECKING:
    from perdure.authoring.trigger import TriggerSpec
    from perdure.model.commands import AnyCommand

SchemaOf = Callable[[int], str | None]
"""The schema of an id of a registry; None: it knows none. Raises when the registry is down, which
is waited for."""

AVRO: Final = (
    "application/avro",
    "application/vnd.apache.avro",
    "avro/binary",
    "application/vnd.confluent.avro",
)
TOMBSTONE: Final = "tombstone"
"""Reason of a dead letter: a record without a value."""
_MAGIC: Final = 0
_FRAME: Final = 5


class BadRecord(Exception):
    """A record that means nothing to a trigger: it becomes a dead letter.

    Attributes:
        reason: one word.
        commands: what it has led to by other triggers of its topic.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.commands: list[AnyCommand] = []


def value_of(
    spec: TriggerSpec,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes | None]],
    schema_of: SchemaOf | None,
) -> Any:
    """Decode the value of a record.

    Args:
        spec: of the trigger.
        value: of the record.
        headers: of the record.
        schema_of: of the registry; None: there is none.

    Raises:
        BadRecord: it does not.
    """
    named = {name.lower(): text for name, text in headers if text is not None}
    is_wrapped = get_origin(spec.value) is CloudEvent or spec.value is CloudEvent
    try:
        parts = parts_of(value, named) if spec.format in {"", "cloudevents"} else None
    except ValueError as error:
        raise BadRecord("undecodable", str(error)) from None
    if parts is None:
        if spec.format == "cloudevents" or is_wrapped:
            raise BadRecord(
                "undecodable",
                "it is not a CloudEvent: it has no header ce_specversion, and is not "
                "application/cloudevents+json",
            )
        return _decoded(spec, value, _content_type(named), spec.value, schema_of)
    wanted = (getattr(spec.value, "__args__", None) or (Any,))[0] if is_wrapped else spec.value
    data = _decoded(spec, parts.data, parts.content_type, wanted, schema_of)
    if not is_wrapped:
        return data
    attributes = {name: parts.attributes.get(name) for name in ("id", "source", "type", "subject", "time")}
    try:
        event: Any = msgspec.convert(
            {**attributes, "subject": attributes["subject"] or "", "data": None},
            CloudEvent[Any],
            strict=False,
        )
    except msgspec.ValidationError as error:
        raise BadRecord("undecodable", f"the CloudEvent: {error}") from None
    return msgspec.structs.replace(event, data=data)


def _content_type(headers: Mapping[str, bytes]) -> str:
    return headers.get("content-type", b"").decode(errors="replace").partition(";")[0].strip().lower()


def _decoded(
    spec: TriggerSpec, data: bytes | None, content_type: str, wanted: Any, schema_of: SchemaOf | None
) -> Any:
    if data is None:
        raise BadRecord(TOMBSTONE, "it has no value")
    if spec.format == "avro" or spec.schema or content_type in AVRO:
        return _of_avro(spec, data, wanted, schema_of)
    try:
        return from_json(data, wanted)
    except PayloadError as error:
        raise BadRecord("undecodable", f"its value does not match the trigger's type: it {error}") from None


def _of_avro(spec: TriggerSpec, data: bytes, wanted: Any, schema_of: SchemaOf | None) -> Any:
    fastavro: Any = importlib.import_module("fastavro")
    schema = spec.schema
    if not schema:
        if len(data) < _FRAME or data[0] != _MAGIC:
            raise BadRecord("undecodable", "it is Avro without a frame, and the trigger has no schema=")
        if schema_of is None:
            raise BadRecord(
                "unknown_schema",
                "it is framed by a schema registry, but none is configured (schema.registry.url)",
            )
        schema_id = int.from_bytes(data[1:_FRAME], "big")
        found = schema_of(schema_id)
        if found is None:
            raise BadRecord("unknown_schema", f"the schema registry has no schema {schema_id}")
        schema, data = found, data[_FRAME:]
    source = io.BytesIO(data)
    try:
        plain = fastavro.schemaless_reader(source, _parsed(schema), None)
    except Exception as error:  # noqa: BLE001  fastavro promises nothing about what it raises
        raise BadRecord(
            "undecodable", f"it does not match its Avro schema: {type(error).__name__}: {error}"
        ) from None
    if source.read(1):
        raise BadRecord("undecodable", f"its Avro schema takes {source.tell() - 1} of its {len(data)} bytes")
    try:
        return msgspec.convert(plain, decodable(wanted), strict=False, dec_hook=decode_foreign)
    except (msgspec.ValidationError, TypeError) as error:
        raise BadRecord("undecodable", f"its value does not match the trigger's type: it {error}") from None


@lru_cache(256)
def _parsed(schema: str) -> Any:
    fastavro: Any = importlib.import_module("fastavro")
    return fastavro.parse_schema(json.loads(schema))
