"""The head of the timers in memory; the tail stays in the store, behind a cursor.

A sleeping run costs no memory: only the timers that fire next are held, at most twice a page.
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
        """Read the head again when it is asked for: at the start, and when a batch was aborted."""
        self._heap, self._cursor, self._has_tail = [], None, True
        self._cancelled.clear()

    def next_at(self) -> int | None:
        """When the next timer fires, microseconds; None: there is none. May be the time of a
        cancelled timer.
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
        """Timers that the store holds from now on; perhaps one that has fired, again."""
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
        """Timers that the store no longer holds."""
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
