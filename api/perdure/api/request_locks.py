"""Serialises requests that share one request id.

Replies of engines are matched by request id alone, and the id is made from the caller's
`Idempotency-Key`. If two requests with the same id run at the same time, neither must get the
other's answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class RequestLocks:
    """The locks by request id. Belongs to one asyncio loop."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def of(self, request_id: str) -> AsyncGenerator[None]:
        """Context manager: wait for the earlier requests with this id, then hold the lock."""
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
