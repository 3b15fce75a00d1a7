r"""States and events as rows: lines of COPY's text format, columns in the order of the tables.

https://www.postgresql.org/docs/current/sql-copy.html: tabs between columns, a backslash before what
means something, `\N` for NULL.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

import msgspec

from perdure.codec.records import encode_event_record, encode_state
from perdure.model.events import EventRecord
from perdure.model.states import WorkflowState

STATE_COLUMNS: Final = (
    "workflow_id", "run_id", "type", "status", "started_at", "updated_at", "closed_at", "history_length",
    "view", "attributes", "waits",
    "result", "failure", "reason", "memo", "details", "input_partition", "input_offset", "is_exact", "record",
)  # fmt: skip
EVENT_COLUMNS: Final = (
    "workflow_id",
    "run_id",
    "event_id",
    "first_event_id",
    "at",
    "type",
    "data",
    "is_exact",
    "record",
)

NUL_SHOWN: Final = "\N{SYMBOL FOR NULL}"
"""Replaces a NUL, which PostgreSQL cannot store."""

_NULL: Final = b"\\N"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES: Final = frozenset(
    {"fires_at", "retry_at", "delayed_until", "since", "until", "scheduled_at", "due_at"}
)
_SECRET: Final = frozenset({"token", "seed"})
"""Fields hidden from readers: anyone who knows a token may end the attempt."""
_ESCAPED_NUL: Final = b"\\u0000"
_encode: Final = msgspec.json.Encoder().encode
_raw: Final = msgspec.json.Decoder(msgspec.Raw)


def state_line(state: WorkflowState) -> bytes:
    """A row of `workflows`."""
    texts = [
        _text(each)
        for each in (
            state.workflow_id,
            state.run_id,
            state.type,
            str(state.status),
            state.reason,
            state.details,
        )
    ]
    values = [
        _json(payload_json(state.view), is_null=_is_closed(state.view)),
        _json(state.attributes or b"{}"),
        _json(_encode([shown(wait) for wait in state.waits])),
        _json(payload_json(state.result), is_null=_is_closed(state.result)),
        _json(_encode(shown(state.failure)) if state.failure is not None else b""),
        _json(payload_json(state.memo), is_null=_is_closed(state.memo)),
    ]
    is_exact = all(each[1] for each in texts) and all(each[1] for each in values)
    view, attributes, waits, result, failure, memo = (each[0] for each in values)
    workflow_id, run_id, type_, status, reason, details = (each[0] for each in texts)
    return b"\t".join(
        (
            workflow_id,
            run_id,
            type_,
            status,
            moment(state.started_at),
            moment(state.updated_at),
            moment(state.closed_at) if state.closed_at else _NULL,
            b"%d" % state.history_length,
            view,
            attributes,
            waits,
            result,
            failure,
            reason,
            memo,
            details,
            b"%d" % state.input_partition,
            b"%d" % state.input_offset,
            b"t" if is_exact else b"f",
            _bytea(encode_state(state)),
        )
    )


def plain_state_line(state: WorkflowState) -> bytes:
    """The same for a state whose values PostgreSQL does not take: they are left to `record`."""
    bare = msgspec.structs.replace(
        state,
        view=b"",
        attributes=b"",
        waits=(),
        result=b"",
        failure=None,
        reason="",
        memo=b"",
        details="",
    )
    line = state_line(bare).split(b"\t")
    line[-2:] = [b"f", _bytea(encode_state(state))]
    return b"\t".join(line)


def event_lines(record: EventRecord, *, is_plain: bool = False) -> list[bytes]:
    """Rows of `events`.

    Args:
        record: of one run.
        is_plain: leave the fields to `record`: PostgreSQL does not take them.
    """
    (workflow_id, is_id_exact), (run_id, is_run_exact) = _text(record.workflow_id), _text(record.run_id)
    first, at = b"%d" % record.first_event_id, moment(record.at)
    packed = _bytea(encode_event_record(record))
    lines: list[bytes] = []
    for event_id, event in enumerate(record.events, record.first_event_id):
        kind = type(event)
        data, is_exact = (b"{}", False) if is_plain else _json(_encode(shown(event)))
        is_exact = is_exact and is_id_exact and is_run_exact
        lines.append(
            b"\t".join(
                (
                    workflow_id,
                    run_id,
                    b"%d" % event_id,
                    first,
                    at,
                    kind.__name__.encode(),
                    data,
                    b"t" if is_exact else b"f",
                    packed,
                )
            )
        )
        packed = _NULL
    return lines


def moment(microseconds: int) -> bytes:
    """A timestamptz."""
    known: tuple[int, bytes] = _last[0]
    if microseconds == known[0]:
        return known[1]
    try:
        text = (_EPOCH + timedelta(microseconds=microseconds)).isoformat().encode()
    except OverflowError:  # after the year 9999, or before Christ
        text = b"infinity" if microseconds > 0 else b"-infinity"
    _last[0] = microseconds, text
    return text


_last: Final = [(0, b"1970-01-01T00:00:00+00:00")]
"""Most of a batch has happened at one time."""


def payload_json(payload: bytes) -> bytes:
    """The JSON of a payload; of one that a codec closed, which codec and how many bytes."""
    if not payload:
        return b""
    if _is_closed(payload):
        codec = payload[1:].partition(b"\0")[0].decode("ascii", "replace")
        return _encode({"codec": codec, "bytes": len(payload)})
    return payload


def shown(struct: msgspec.Struct) -> dict[str, Any]:
    """The fields that are not at their defaults, for people: payloads as JSON, times as text."""
    result: dict[str, Any] = {}
    for name, default, show in _fields(type(struct)):
        value = getattr(struct, name)
        if value != default:
            result[name] = show(value)
    return result


@cache
def _fields(kind: type[msgspec.Struct]) -> tuple[tuple[str, Any, Callable[[Any], Any]], ...]:
    return tuple(
        (field.name, field.default, _shower(field.name, field.type))
        for field in msgspec.structs.fields(kind)
        if field.name not in _SECRET
    )


def _shower(name: str, annotation: Any) -> Callable[[Any], Any]:
    if annotation is bytes:
        return _shown_payload
    if name in _TIMES:
        return _shown_time
    if annotation in {str, int, bool, float}:
        return _as_it_is
    return _shown_value


def _as_it_is(value: Any) -> Any:
    return value


def _shown_value(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return shown(value)
    if type(value) is bytes:
        return _shown_payload(value)
    return [*map(_shown_value, value)] if type(value) in {list, tuple} else value


def _shown_time(value: int) -> str | int:
    return moment(value).decode() if value else 0


def _shown_payload(payload: bytes) -> Any:
    text = payload_json(payload)
    try:
        return _raw.decode(text)
    except msgspec.MsgspecError:
        return {"bytes": len(payload)}


def _is_closed(payload: bytes) -> bool:
    return payload[:1] == b"\0"


def _json(text: bytes, *, is_null: bool = False) -> tuple[bytes, bool]:
    """A column of jsonb, and whether it says all."""
    if not text or is_null:
        return _NULL, True
    if b"\\" not in text:
        return text, True
    is_exact = True
    if _ESCAPED_NUL in text:
        try:
            found: Any = json.loads(text)
        except ValueError:  # no JSON: PostgreSQL says so
            found = None
        else:
            text = json.dumps(_without_nul(found), ensure_ascii=False, separators=(",", ":")).encode(
                "utf-8", "replace"
            )
            is_exact = _has_no_nul(found)
    return text.replace(b"\\", b"\\\\"), is_exact


def _without_nul(value: Any) -> Any:
    kind = value.__class__
    if kind is str:
        return value.replace("\0", NUL_SHOWN)
    if kind is list:
        return [_without_nul(each) for each in value]
    if kind is dict:
        return {_without_nul(key): _without_nul(each) for key, each in value.items()}
    return value


def _has_no_nul(value: Any) -> bool:
    kind = value.__class__
    if kind is str:
        return "\0" not in value
    if kind is list:
        return all(map(_has_no_nul, value))
    if kind is dict:
        return all(_has_no_nul(key) and _has_no_nul(each) for key, each in value.items())
    return True


def _text(value: str) -> tuple[bytes, bool]:
    """A column of text, and whether it says all."""
    if value.isprintable() and "\\" not in value:
        return value.encode("utf-8", "replace"), True
    is_exact = "\0" not in value
    escaped = (
        value.replace("\0", NUL_SHOWN)
        .replace("\\", "\\\\")
        .replace("\t", "\\t")
        .replace("\n", "\\n")
        .replace("\r", "\\r")
    )
    return escaped.encode("utf-8", "replace"), is_exact


def _bytea(value: bytes) -> bytes:
    return b"\\\\x" + value.hex().encode()
