"""Replays open runs ahead of need, to find code that diverges from their histories now and not when
they wake, perhaps in a month.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from perdure.errors import UndecodableRecord

if TYPE_CHECKING:
    from collections.abc import Collection

    from perdure.engine.active import ActiveRuns
    from perdure.engine.ports import Store

PAGE: Final = 64
"""Rows of the store that are looked at for open runs at a time."""

MAX_EVENTS: Final = 2_000
"""A longer history is not replayed ahead of need: that would block other runs for more than about
10 ms."""

BATCHES: Final = 50
"""A busy engine reviews one run every this many batches."""


PAUSE_S: Final = 0.002
"""How long an idle engine waits for commands between two reviews, so that other threads of the
process get the interpreter.
"""


class Reviewer:
    """Goes through the open runs of each partition once in the life of a process, one run per call.

    Args:
        store: has the open runs and their histories.
        runs: the cache; a run whose code is in memory has been replayed already.

    Attributes:
        reviewed: how many runs were replayed.
        passed_over: how many were skipped because their history is too long.
    """

    def __init__(self, store: Store, runs: ActiveRuns) -> None:
        self._store = store
        self._runs = runs
        self._partitions: deque[int] = deque()
        self._begun: set[int] = set()
        self._cursor: Any = None
        self._page: deque[tuple[str, str]] = deque()
        self._page_of = -1
        self.reviewed = 0
        self.passed_over = 0

    def add(self, partitions: Collection[int]) -> None:
        """Review these partitions, which are owned now, unless they were reviewed before."""
        new = [number for number in sorted(partitions) if number not in self._begun]
        self._begun.update(new)
        self._partitions.extend(new)

    def remove(self, partitions: Collection[int]) -> None:
        """Stop reviewing these partitions. A review that was not finished starts over when the
        partition is owned again.
        """
        lost = set(partitions)
        if self._page and self._page_of in lost:
            self._begun.discard(self._page_of)
            self._page.clear()
        if self._partitions and self._partitions[0] in lost:
            self._cursor = None
        self._begun -= lost & set(self._partitions)
        self._partitions = deque(number for number in self._partitions if number not in lost)

    @property
    def is_done(self) -> bool:
        """Whether the review is complete."""
        return not self._partitions and not self._page

    def look(self) -> tuple[str, str] | None:
        """Replay the next run, or find the next ones.

        Returns:
            The workflow id and run id, if the code cannot replay the run.
        """
        if not self._page:
            self._turn_page()
            return None
        workflow_id, run_id = self._page.popleft()
        if self._runs.is_live(workflow_id, run_id):
            return None
        try:
            records = self._store.events(workflow_id, run_id)
        except UndecodableRecord:  # said when something is asked of the run; the others are reviewed
            return None
        if not records:
            return None
        if records[-1].last_event_id > MAX_EVENTS:
            self.passed_over += 1
            return None
        self.reviewed += 1
        return None if self._runs.can_replay(records) else (workflow_id, run_id)

    def _turn_page(self) -> None:
        self._page_of = self._partitions[0]
        found, self._cursor = self._store.running(self._page_of, self._cursor, PAGE)
        self._page.extend(found)
        if self._cursor is None:
            self._partitions.popleft()
