"""The beginning of a history, up to one of its events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from perdure.model.events import EventRecord


class Beginning:
    """The records of a history up to an event; may be iterated over more than once.

    Args:
        records: the whole history.
        last: the id of the last event.
    """

    __slots__ = ("_last", "_records")

    def __init__(self, records: Iterable[EventRecord], last: int) -> None:
        self._records = records
        self._last = last

    def __iter__(self) -> Iterator[EventRecord]:
        for record in self._records:
            if record.first_event_id > self._last:
                return
            kept = self._last - record.first_event_id + 1
            yield record if kept >= len(record.events) else replace(record, events=record.events[:kept])
