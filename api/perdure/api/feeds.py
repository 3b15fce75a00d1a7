"""Feeds: which states have changed, for the streams of server-sent events. One a process, however many watch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from perdure.client.listing import PAGE_LIMIT, ListQuery
from perdure.errors import InfrastructureError

if TYPE_CHECKING:
    from perdure.client.ports import Reader
    from perdure.model.states import WorkflowState

Change = tuple[str, "WorkflowState | None"]
"""A workflow id and its state; None: it was deleted."""
Listener = Callable[[Sequence[Change]], None]

LOOK_S: Final = 0.1
OVERLAP_US: Final = 5_000_000
"""Engines stamp changes by their own clocks, and what is stamped earlier may show later: so far back it is looked again, microseconds."""


class Feed(Protocol):
    """Belongs to one asyncio loop."""

    def start(self, listener: Listener) -> None:
        """Tell the listener of every change from now on, on the loop; until `close`. What is there already is told of, too."""

    async def close(self) -> None:
        """Idempotent."""


class PollingFeed:
    """Looks again and again at what a reader has; for one machine, whose readers see a write at once.

    Args:
        read: puts a question to the reader.
        look_s: between two looks, seconds.
    """

    def __init__(
        self, read: Callable[[Callable[[Reader], list[WorkflowState]]], Awaitable[list[WorkflowState]]], look_s: float = LOOK_S
    ) -> None:
        self._read = read
        self._look_s = look_s
        self._task: asyncio.Task[None] | None = None
        self._told: dict[str, int] = {}
        self._since = 0

    def start(self, listener: Listener) -> None:
        """Look from here on."""
        self._task = asyncio.get_running_loop().create_task(self._run(listener))

    async def close(self) -> None:
        """Look no longer."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self, listener: Listener) -> None:
        newest = await self._page(ListQuery(sort="updated_at", limit=1))
        self._since = newest[0].updated_at if newest else 0
        while True:
            await asyncio.sleep(self._look_s)
            changes: list[Change] = []
            after = None
            while True:
                query = ListQuery(
                    updated_after=self._since - OVERLAP_US, sort="updated_at", order="oldest", limit=PAGE_LIMIT, after=after
                )
                found = await self._page(query)
                changes += [(each.workflow_id, each) for each in found if self._is_news(each)]
                if len(found) < PAGE_LIMIT:
                    break
                after = query.key_of(found[-1])
            if changes:
                self._forget()
                listener(changes)

    def _is_news(self, state: WorkflowState) -> bool:
        if self._told.get(state.workflow_id, -1) >= state.updated_at:
            return False
        self._told[state.workflow_id] = state.updated_at
        self._since = max(self._since, state.updated_at)
        return True

    def _forget(self) -> None:
        """What lies before the overlap is not seen again."""
        if len(self._told) > 4 * PAGE_LIMIT:
            self._told = {key: at for key, at in self._told.items() if at >= self._since - OVERLAP_US}

    async def _page(self, query: ListQuery) -> list[WorkflowState]:
        try:
            return await self._read(lambda reader: reader.list(query))
        except InfrastructureError:
            return []  # the reader waits for what it reads; so do we
