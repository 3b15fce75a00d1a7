"""Timers: the next ones are in memory, the others stay in the store, behind a cursor.

A sleeping run costs no memory: at most two pages of timers are held.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, nsmallest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perdure.engine.ports import Store
    from perdure.model.timers import Timer


class TimerQueue:
    """Finds due timers.

    Args:
        store: holds all timers.
        page: page size.
    """

    __slots__ = ("_cancelled", "_cursor", "_has_tail", "_heap", "_page", "_store")

    def __init__(self, store: Store, page: int = 10_000) -> None:
        self._store = store
        self._page = page
        self._heap: list[Timer] = []
        self._cancelled: set[Timer] = set()
        self._cursor: Timer | None = None
        self._has_tail = True

    def load(self) -> None:
        """Read the timers again when they are needed next. Called at the start, and after an
        aborted batch.
        """
        self._heap, self._cursor, self._has_tail = [], None, True
        self._cancelled.clear()

    def next_at(self) -> int | None:
        """When the next timer fires, microseconds; it may be a cancelled one. None: there is
        none.
        """
        if not self._heap and self._has_tail:
            self._read()
        return self._heap[0].fires_at if self._heap else None

    def due(self, at: int, limit: int | None = None) -> list[Timer]:
        """Take those that fire at `at` or before, in their order; at most `limit`, by default a
        page.
        """
        taken: list[Timer] = []
        limit = limit or self._page
        while (first := self.next_at()) is not None and first <= at and len(taken) < limit:
            timer = heappop(self._heap)
            if timer in self._cancelled:
                self._cancelled.discard(timer)
            else:
                taken.append(timer)
        return taken

    def arm(self, timers: Iterable[Timer]) -> None:
        """Add timers that the store holds from now on; one may have fired before and be armed
        again.
        """
        for timer in timers:
            self._cancelled.discard(timer)
            # Only timers of the head are kept here. One behind the cursor is read with its page.
            if not self._has_tail or (self._cursor is not None and timer <= self._cursor):
                heappush(self._heap, timer)
        # A head that has grown is cut to a page; the store has the rest, behind the cursor.
        if len(self._heap) > 2 * self._page:
            self._heap = nsmallest(self._page, self._heap)
            self._cursor, self._has_tail = self._heap[-1], True
            self._cancelled = {timer for timer in self._cancelled if timer <= self._cursor}

    def disarm(self, timers: Iterable[Timer]) -> None:
        """Remove timers that the store does not hold any more."""
        for timer in timers:
            if not self._has_tail or (self._cursor is not None and timer <= self._cursor):
                # Finding it in the heap would be linear: `due` skips it when its time comes.
                self._cancelled.add(timer)
        if len(self._cancelled) > self._page:
            self._heap = [timer for timer in self._heap if timer not in self._cancelled]
            heapify(self._heap)
            self._cancelled.clear()

    def _read(self) -> None:
        page = self._store.timers(self._cursor, self._page)
        self._has_tail = len(page) == self._page
        if page:
            self._cursor = page[-1]
            self._heap = page
