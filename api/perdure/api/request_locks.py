"""Serialises requests that share one request id.

Replies of engines are matched by request id alone. A caller's `Idempotency-Key` is one, and two
callers may choose the same for two workflows at the same time: neither may get the other's answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class RequestLocks:
    """Belongs to one asyncio loop."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def of(self, request_id: str) -> AsyncGenerator[None]:
        """One's own turn, when all who came before have had theirs."""
        lock, waiting = self._taken.get(request_id) or (asyncio.Lock(), 0)
        self._taken[request_id] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._taken[request_id]
            if waiting > 1:
                self._taken[request_id] = (lock, waiting - 1)
            else:
                del self._taken[request_id]

    def __len__(self) -> int:
        """Number of request ids in use."""
        return len(self._taken)
