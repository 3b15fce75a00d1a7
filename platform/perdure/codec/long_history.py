"""A long history, decoded as it is read: a million events as objects take a gigabyte."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from perdure.codec.records import decode_event_record

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from perdure.model.events import EventRecord
    from perdure.model.replies import History

LONG: Final = 10_000
"""Events of a history that is read page by page; a shorter one is decoded as a whole, once."""


class LongHistory:
    """The records of a run, in order; read again each time that they are iterated over.

    Args:
        page: reads the page that begins with the record that holds an event.
        more: records that the store does not have yet.
    """

    __slots__ = ("_more", "_page")

    def __init__(self, page: Callable[[int], History], more: Collection[EventRecord] = ()) -> None:
        self._page = page
        self._more = more

    def __iter__(self) -> Iterator[EventRecord]:
        for encoded in self._encoded():
            yield decode_event_record(encoded)
        yield from self._more

    def holding(self, kinds: Collection[str]) -> Iterator[EventRecord]:
        """The records that hold an event of one of these kinds, and perhaps some others: their
        bytes are searched for the names.
        """
        names = [kind.encode() for kind in kinds]
        for encoded in self._encoded():
            if any(name in encoded for name in names):
                yield decode_event_record(encoded)
        yield from self._more

    def _encoded(self) -> Iterator[bytes]:
        next_event_id = 1
        while next_event_id:
            page = self._page(next_event_id)
            yield from page.records
            next_event_id = page.next_event_id
