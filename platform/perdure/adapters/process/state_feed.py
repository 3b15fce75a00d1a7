"""Publishes every changed state, inside the engine's process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perdure.adapters.process.channel import Channel
    from perdure.client.position import Position
    from perdure.model.states import WorkflowState

Change = tuple[str, "WorkflowState | None"]


class LocalStateFeed:
    """Publishes states when they are committed. Belongs to the loop that starts it.

    Args:
        channel: the engine's.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener: Callable[[Sequence[Change]], None] | None = None

    def start(self, listener: Callable[[Sequence[Change]], None]) -> None:
        """Call the listener, on this loop, for every change from now on."""
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._channel.deliveries.subscribe_states(self._deliver)

    async def begun(self) -> None:
        """Returns immediately: the feed begins when it is started."""

    async def positions(self) -> list[Position]:
        """No positions: every read sees everything that was published."""
        return []

    async def close(self) -> None:
        """Stop publishing. Idempotent."""
        self._listener = None
        self._channel.deliveries.unsubscribe_states(self._deliver)

    def _deliver(self, states: list[WorkflowState]) -> None:
        """On the engine's thread."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._tell, states)

    def _tell(self, states: list[WorkflowState]) -> None:
        if self._listener is not None:
            self._listener([(state.workflow_id, state) for state in states])
