"""JSON views of states, histories and dead letters."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from perdure.client.description import begins_at
from perdure.codec.history import event_to_json
from perdure.codec.readable import PLAIN, Readable
from perdure.codec.records import decode_event_record
from perdure.codec.wrapping import described_payload
from perdure.errors import InfrastructureError
from perdure.model.failure import FailureInfo, place_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perdure.model.replies import History
    from perdure.model.states import Wait, WorkflowState
    from perdure.ports.dead_letters import OpenLetter

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NUL: Final = b"\0"
_ENCODER: Final = msgspec.json.Encoder()
EVENTS_BYTES: Final = 2 * 1024 * 1024
"""The size of a page of events, bytes; the page ends with the event that exceeds it."""


def moment(at: int) -> str | None:
    """RFC 3339 with microseconds; None for 0."""
    if not at:
        return None
    try:
        return (_EPOCH + timedelta(microseconds=at)).isoformat(timespec="microseconds").replace("+00:00", "Z")
    except OverflowError:
        return "9999-12-31T23:59:59.999999Z" if at > 0 else "0001-01-01T00:00:00.000000Z"


def payload(data: bytes) -> Any:
    """The JSON of a payload, as it is; of one that cannot be read here, its codec, key and base64,
    or its object.
    """
    if not data:
        return None
    if data.startswith(_NUL):
        return described_payload(data)
    return msgspec.Raw(data)


def state(found: WorkflowState) -> dict[str, Any]:
    """The public state of a workflow."""
    return {
        "id": found.workflow_id,
        "run_id": found.run_id,
        "type": found.type,
        "parent": found.parent or None,
        "status": str(found.status),
        "started_at": moment(found.started_at),
        "updated_at": moment(found.updated_at),
        "closed_at": moment(found.closed_at),
        "begins_at": moment(begins_at(found)),
        "history_length": found.history_length,
        "view": payload(found.view),
        "attributes": msgspec.Raw(found.attributes or b"{}"),
        "memo": payload(found.memo or b"{}"),
        "details": found.details or None,
        "waits": [_wait(each) for each in found.waits],
        "result": payload(found.result),
        "failure": failure(found.failure),
        "reason": found.reason or None,
    }


def outline(found: WorkflowState) -> WorkflowState:
    """The part of a state without payloads: names of types, times, and the run's waits.

    Messages of exceptions and texts of reasons may contain data, so they are left out, too; the
    exception's type stays.
    """
    failed = found.failure
    if failed is not None:
        failed = FailureInfo(type=failed.type, message="")
    waits = tuple(replace(each, summary="") if each.summary else each for each in found.waits)
    return replace(
        found,
        view=b"",
        attributes=b"",
        memo=b"",
        details="",
        waits=waits,
        result=b"",
        failure=failed,
        reason="",
    )


def failure(found: FailureInfo | None) -> dict[str, Any] | None:
    """An exception, with the file and line where it was raised; tracebacks stay in the history."""
    if found is None:
        return None
    return {
        "type": found.type,
        "message": found.message,
        "place": place_of(found) or None,
        "notes": found.notes,
        "fields": msgspec.Raw(found.fields) if found.fields else None,
        "cause": failure(found.cause),
        # of a group
        "exceptions": None if found.exceptions is None else [failure(each) for each in found.exceptions],
    }


def _wait(found: Wait) -> dict[str, Any]:
    return {
        "kind": found.kind,
        "name": found.name or None,
        "number": found.number,
        "attempt": found.attempt or None,
        "scheduled_at": moment(found.scheduled_at),
        "due_at": moment(found.due_at),
        "summary": found.summary or None,
    }


def history_page(run_id: str, page: History, begin: int, limit: int, readable: Readable = PLAIN) -> bytes:
    """Events as `perdure workflow history -o json` shows them: at most `limit` from the event
    `begin` on, fewer if they are large.

    Args:
        run_id: the run's id.
        page: a page of its history, at least one record.
        begin: the first event that is wanted.
        limit: at least 1.
        readable: decodes what a codec has encoded.
    """
    events: list[bytes] = []
    size = 0
    following: int | None = None
    for event_id, event in _events_of(page, begin, readable):
        if len(events) >= limit or size > EVENTS_BYTES:
            following = event_id
            break
        data = _ENCODER.encode(event)
        events.append(data)
        size += len(data)
    else:
        following = page.next_event_id or None
    found = {"run_id": run_id, "events": [msgspec.Raw(each) for each in events], "next": following}
    return _ENCODER.encode(found)


def _events_of(page: History, begin: int, readable: Readable) -> Iterator[tuple[int, dict[str, Any]]]:
    """Id and JSON of each event from `begin` on; an unreadable record is shown as one event, with
    the reason.
    """
    following = 0
    for encoded in page.records:
        try:
            record = decode_event_record(encoded)
        except InfrastructureError as error:
            following = max(following, begin)
            yield (
                following,
                {
                    "event_id": following,
                    "at": None,
                    "type": "Unreadable",
                    "message": str(error),
                    "bytes": len(encoded),
                },
            )
            continue
        following = record.last_event_id + 1
        (record,) = readable.records([record])
        first = max(begin, record.first_event_id)
        for event_id in range(first, following):
            yield event_id, event_to_json(record, event_id)


def letter(found: OpenLetter) -> dict[str, Any]:
    """A dead letter."""
    it = found.letter
    return {
        "id": found.id,
        "topic": it.topic,
        "partition": it.partition,
        "offset": it.offset,
        "written_at": moment(it.timestamp_ms * 1_000) if it.timestamp_ms > 0 else None,
        "found_at": moment(it.found_at),
        "reason": it.reason,
        "message": it.message,
        "key": _base64(it.key),
        "value": _base64(it.value),
        "size": None if found.size < 0 else found.size,
        "is_whole": found.is_whole,
        "headers": [{"name": header.name, "value": _base64(header.value)} for header in it.headers],
    }


def _base64(data: bytes | None) -> str | None:
    return None if data is None else b64encode(data).decode()
