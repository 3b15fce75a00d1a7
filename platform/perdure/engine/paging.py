"""A page of a run's history, for who asks the engine for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from perdure.codec.records import encode_event_record
from perdure.model.replies import History

if TYPE_CHECKING:
    from perdure.model.commands import ReadHistory
    from perdure.model.events import EventRecord

PAGE_BYTES: Final = 512 * 1024
"""Below what a broker takes by default. A single record may be larger: it is a page by itself."""


def page_of(records: list[EventRecord], command: ReadHistory) -> History:
    """The records from the one that holds the event asked for.

    Args:
        records: the whole history, in order.
        command: says where the page begins.
    """
    page: list[bytes] = []
    size = 0
    for record in records:
        if record.first_event_id + len(record.events) <= command.from_event_id:
            continue
        encoded = encode_event_record(record)
        size += len(encoded)
        if page and size > PAGE_BYTES:
            return History(command.request_id, tuple(page), record.first_event_id)
        page.append(encoded)
    return History(command.request_id, tuple(page))
