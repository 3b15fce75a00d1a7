"""A history as JSON, for people and tools, and back without loss.

One object an event, with `type`, `event_id`, `at`, and its fields that are not at their defaults.
What one command caused is one
record: its first event has `record`, which says where the command came from and the hash of the
record before. Payloads that are compact JSON stand there as JSON; others (encrypted ones) as
`{"base64": "…"}`, and so does JSON that looks like that.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final, cast, get_args

import msgspec

from perdure.errors import UsageError
from perdure.model.dead_letters import RecordHeader
from perdure.model.events import AnyEvent, CarriedRequest, CarriedToken, EventRecord
from perdure.model.failure import FailureInfo
from perdure.model.options import ActivityOptions, RetryPolicy

FORMAT: Final = "perdure history 1"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TYPES: Final[dict[str, type[msgspec.Struct]]] = {kind.__name__: kind for kind in get_args(AnyEvent)}
_NESTED: Final[dict[str, type[msgspec.Struct]]] = {
    "failure": FailureInfo,
    "cause": FailureInfo,
    "options": ActivityOptions,
    "retry": RetryPolicy,
}
"""Structs within events, by the name of the field."""
_STRUCTS: Final[dict[str, type[msgspec.Struct]]] = {
    "headers": RecordHeader,
    "exceptions": FailureInfo,
    "tokens": CarriedToken,
    "requests": CarriedRequest,
}
"""The same, of which there are several."""
_PAYLOADS: Final = (bytes, bytes | None)
_TIMES: Final = frozenset({"at", "fires_at", "retry_at", "delayed_until"})
_OURS: Final = frozenset({"type", "event_id", "at", "record"})
_RENAMED: Final = {"type": "workflow_type", "at": "at_us"}
"""Fields of events whose names are taken."""


def history_to_json(records: Sequence[EventRecord]) -> str:
    """The history of one run, one event a line.

    Args:
        records: in order, at least one.
    """
    if not records:
        raise UsageError("there is no history without events")
    first = records[0]
    head = (
        f'{{\n"format": {json.dumps(FORMAT)},\n"workflow_id": {json.dumps(first.workflow_id)},\n"run_id": '
        f"{json.dumps(first.run_id)},"
    )
    lines = ",\n".join(
        json.dumps(event, ensure_ascii=False) for record in records for event in events_to_json(record)
    )
    return f'{head}\n"events": [\n{lines}\n]\n}}\n'


def history_from_json(text: str | bytes) -> list[EventRecord]:
    """The records that `history_to_json` was given.

    Raises:
        UsageError: it is not a history; the message says where.
    """
    try:
        top = json.loads(text)
        if top["format"] != FORMAT:
            raise UsageError(
                f"this is {top['format']!r}, not {FORMAT!r}; use the version of perdure that wrote it."
            )
        return msgspec.msgpack.decode(msgspec.msgpack.encode(_records(top)), type=list[EventRecord])
    except (ValueError, KeyError, TypeError, LookupError, msgspec.MsgspecError) as error:
        raise UsageError(f"this is not a perdure history: {type(error).__name__}: {error}") from None


# ---- to JSON


def events_to_json(record: EventRecord) -> list[dict[str, Any]]:
    """The events of one record, each as an object of JSON."""
    return [
        event_to_json(record, event_id) for event_id in range(record.first_event_id, record.last_event_id + 1)
    ]


def event_to_json(record: EventRecord, event_id: int) -> dict[str, Any]:
    """One event of a record as an object of JSON."""
    event = record.events[event_id - record.first_event_id]
    shown = {"event_id": event_id, "at": _time(record.at), "type": type(event).__name__, **_shown(event)}
    if event_id == record.first_event_id:
        shown["record"] = {
            "input_partition": record.input_partition,
            "input_offset": record.input_offset,
            "previous_hash": record.previous_hash.hex(),
        }
    return shown


def _shown(struct: msgspec.Struct) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, default in _fields(type(struct)):
        value = getattr(struct, name)
        if value != default:
            shown[_RENAMED.get(name, name) if type(struct).__name__ in _TYPES else name] = _shown_value(
                name, value
            )
    return shown


def _shown_value(name: str, value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return _shown(value)
    if isinstance(value, bytes):
        return _payload(value)
    if name in _STRUCTS:
        return [_shown(each) for each in value]
    if name in _TIMES:
        return _time(value)
    return value


def _payload(data: bytes) -> Any:
    try:
        value: Any = json.loads(data)
        if not _is_wrapped(value) and _compact(value) == data:
            return value
    except ValueError:
        pass
    return {"base64": b64encode(data).decode()}


def _is_wrapped(value: Any) -> bool:
    return type(value) is dict and value.keys() == {"base64"}


def _compact(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _time(microseconds: int) -> str | int:
    try:
        return (
            (_EPOCH + timedelta(microseconds=microseconds))
            .isoformat(timespec="microseconds")
            .replace("+00:00", "Z")
        )
    except OverflowError:  # after the year 9999
        return microseconds


# ---- from JSON


def _records(top: dict[str, Any]) -> list[EventRecord]:
    records: list[EventRecord] = []
    for shown in top["events"]:
        if origin := shown.get("record"):
            records.append(
                EventRecord(
                    top["workflow_id"],
                    top["run_id"],
                    shown["event_id"],
                    at=_microseconds(shown["at"]),
                    input_partition=origin["input_partition"],
                    input_offset=origin["input_offset"],
                    previous_hash=bytes.fromhex(origin["previous_hash"]),
                    events=[],
                )
            )
        records[-1].events.append(
            cast(
                "AnyEvent",
                _restored(_TYPES[shown["type"]], {k: v for k, v in shown.items() if k not in _OURS}),
            )
        )
    return records


def _restored(kind: type[msgspec.Struct], shown: dict[str, Any]) -> msgspec.Struct:
    original = {v: k for k, v in _RENAMED.items()} if kind.__name__ in _TYPES else {}
    values = {original.get(k, k): v for k, v in shown.items()}
    payloads = _payload_fields(kind)
    return kind(
        **{name: _restored_value(name, value, is_payload=name in payloads) for name, value in values.items()}
    )


def _restored_value(name: str, value: Any, *, is_payload: bool) -> Any:
    if is_payload:
        return b64decode(value["base64"]) if _is_wrapped(value) else _compact(value)
    if name in _STRUCTS:
        return [_restored(_STRUCTS[name], each) for each in value]
    if name in _NESTED and value is not None:
        return _restored(_NESTED[name], value)
    if name in _TIMES:
        return _microseconds(value)
    return value


def _microseconds(time: Any) -> int:
    if isinstance(time, int):
        return time
    return (datetime.fromisoformat(time) - _EPOCH) // timedelta(microseconds=1)


@cache
def _fields(kind: type[msgspec.Struct]) -> tuple[tuple[str, Any], ...]:
    return tuple((f.name, f.default) for f in msgspec.structs.fields(kind))


@cache
def _payload_fields(kind: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(f.name for f in msgspec.structs.fields(kind) if f.type in _PAYLOADS)
