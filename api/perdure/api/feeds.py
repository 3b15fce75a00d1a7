"""Feeds of changed states, for the streams of server-sent events. A process has one, for all its
streams.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from msgspec.structs import replace

from perdure.api.change_events import version_of
from perdure.client.listing import PAGE_LIMIT, ListQuery
from perdure.errors import InfrastructureError
from perdure.threads import watch_task

if TYPE_CHECKING:
    from perdure.api.change_events import Version
    from perdure.client.ports import Reader
    from perdure.client.position import Position
    from perdure.model.states import WorkflowState

Change = tuple[str, "WorkflowState | None"]
"""A workflow id and its state; None: it was deleted."""
Listener = Callable[[Sequence[Change]], None]

POLL_INTERVAL_S: Final = 0.1
BEGUN_S: Final = 5.0
TROUBLE_S: Final = 1.0
_log: Final = logging.getLogger("perdure.api")
PAGE_BYTES: Final = 4 * 1024 * 1024
"""The number of states that are read at a time."""
SHARE: Final = 10
"""The pause between two polls, as a multiple of the duration of the last poll. On a large file,
which is read as a whole, polling then costs a tenth of a processor."""


class Feed(Protocol):
    """Publishes changed states. Belongs to one asyncio loop."""

    def start(self, listener: Listener) -> None:
        """Call the listener, on this loop, for every change from now on until `close`. The changes
        of one workflow arrive in order.
        """

    async def begun(self) -> None:
        """Wait until the feed has begun.

        Raises:
            InfrastructureError: it cannot begin yet.
        """

    async def positions(self) -> list[Position]:
        """Positions that a reader must reach to see everything published so far; one for each
        partition.

        Raises:
            InfrastructureError: the positions are unknown.
        """
        ...

    async def close(self) -> None:
        """Idempotent."""


class PollingFeed:
    """Polls a reader for changes: for a file that another process runs.

    Args:
        reader: reads the file; used in a thread, and closed with this.
        look_s: the pause between two polls, seconds.
    """

    def __init__(self, reader: Reader, look_s: float = POLL_INTERVAL_S) -> None:
        self._reader = reader
        self._look_s = look_s
        self._task: asyncio.Task[None] | None = None
        self._has_begun = asyncio.Event()
        self._since = 0
        self._told: dict[str, Version] = {}

    def start(self, listener: Listener) -> None:
        """Start polling."""
        self._task = asyncio.get_running_loop().create_task(self._run(listener))
        watch_task(self._task, "feed of the API")

    async def begun(self) -> None:
        """Wait for the first poll."""
        try:
            async with asyncio.timeout(BEGUN_S):
                await self._has_begun.wait()
        except TimeoutError:
            raise InfrastructureError("the database file cannot be read yet; retry") from None

    async def positions(self) -> list[Position]:
        """No positions: every read sees all writes that were completed before it."""
        return []

    async def close(self) -> None:
        """Stop polling."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(self._reader.close)

    async def _run(self, listener: Listener) -> None:
        took_s = 0.0
        while True:
            began_at = time.monotonic()
            try:
                if not self._has_begun.is_set():
                    await asyncio.to_thread(self._begin)
                    await self._look(lambda _: None)
                    self._has_begun.set()
                else:
                    await self._look(listener)
            except InfrastructureError as error:
                _log.warning("state changes cannot be read: %s", error)
                await asyncio.sleep(TROUBLE_S)
            took_s = time.monotonic() - began_at
            await asyncio.sleep(max(self._look_s, SHARE * took_s))

    def _begin(self) -> None:
        newest = self._reader.list(ListQuery(sort="updated_at", limit=1))
        self._since = newest[0].updated_at if newest else 0

    async def _look(self, listener: Listener) -> None:
        """Publish the changes since the last poll, page by page; of states with the same time,
        those not seen before.
        """
        query = ListQuery(
            updated_after=self._since,
            sort="updated_at",
            order="oldest",
            limit=PAGE_LIMIT,
            max_bytes=PAGE_BYTES,
        )
        while True:
            page = await asyncio.to_thread(self._reader.list, query)
            if news := [each for each in page if self._told.get(each.workflow_id) != version_of(each)]:
                self._since = max(self._since, news[-1].updated_at)
                seen = self._told | {each.workflow_id: version_of(each) for each in news}
                self._told = {key: version for key, version in seen.items() if version[0] >= self._since}
                listener([(each.workflow_id, each) for each in news])
            if not query.is_cut(page):
                return
            query = replace(query, after=query.key_of(page[-1]))
