"""Pages of a run's history: encoded records, cut in the store, so that no process decodes a whole
history to show a part of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from perdure.codec.records import encode_event_record
from perdure.model.replies import History

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from perdure.model.events import EventRecord

PAGE_BYTES: Final = 512 * 1024
"""The size of a page, bytes: less than a broker accepts by default. A larger record is a page of
its own."""
PAGE_EVENTS: Final = 2**62
"""The limit of a page that is limited only by its size."""


class _Head(msgspec.Struct, array_like=True, gc=False):
    """The beginning of an encoded event record; the rest is skipped."""

    workflow_id: str


_head: Final = msgspec.msgpack.Decoder(_Head)


def page_of(
    rows: Iterable[tuple[int, bytes]], from_event_id: int, limit: int = PAGE_EVENTS, *, request_id: str = ""
) -> History:
    """The page that begins with the first row, which should hold the event `from_event_id`.

    Args:
        rows: first event id and encoded record, in order; read no further than the page goes.
        from_event_id: of the first event that is wanted.
        limit: of events, from that one on; records are not divided, so the page may hold some more.
        request_id: of the reply.
    """
    page: list[bytes] = []
    size = 0
    for first_event_id, encoded in rows:
        size += len(encoded)
        if page and (size > PAGE_BYTES or first_event_id - from_event_id >= limit):
            return History(request_id, tuple(page), first_event_id)
        page.append(encoded)
    return History(request_id, tuple(page))


def is_of(encoded: bytes, workflow_id: str) -> bool:
    """Whether an encoded record may belong to a workflow; True for an unreadable one."""
    try:
        return _head.decode(encoded).workflow_id == workflow_id
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return True


def page_from(records: Sequence[EventRecord], from_event_id: int, limit: int = PAGE_EVENTS) -> History:
    """As `page_of`, from a history in memory: from the record that holds the event, or from the
    last one.
    """
    first = next(
        (n for n, each in enumerate(records) if each.last_event_id >= from_event_id), max(0, len(records) - 1)
    )
    wanted = ((each.first_event_id, encode_event_record(each)) for each in records[first:])
    return page_of(wanted, from_event_id, limit)
