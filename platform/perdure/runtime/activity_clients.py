"""The client that activities of this process share."""

from __future__ import annotations

import asyncio
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from perdure.client.client import lent
from perdure.client.sync import SyncClient
from perdure.errors import InfrastructureError
from perdure.model.runtime import misuse

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from perdure.client import Client

T = TypeVar("T")


class ActivityClients:
    """Gives attempts a client of their own platform, connected when the first one asks.

    Args:
        make: makes the client.
        loop: on which attempts run.
    """

    def __init__(self, make: Callable[[], Client], loop: asyncio.AbstractEventLoop) -> None:
        self._make = make
        self._loop = loop
        self._lock = Lock()
        self._client: Client | None = None
        self._is_closed = False

    def of_async(self) -> Client:
        """For code on the loop.

        Raises:
            UsageError: it is called on another loop.
        """
        if asyncio.get_running_loop() is not self._loop:
            raise misuse(
                "activity.client is called on an asyncio loop of yours; use it in the activity itself, or "
                "connect one for your loop with Client.connect."
            )
        return self._shared()

    def of_sync(self) -> SyncClient:
        """For code in a thread."""
        return SyncClient(self._shared(), _Loop(self._loop))

    async def close(self) -> None:
        """Close the shared client; called on the loop. Idempotent."""
        with self._lock:
            self._is_closed = True
            client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _shared(self) -> Client:
        with self._lock:
            if self._is_closed:
                raise InfrastructureError("this worker has stopped, and its client is closed")
            if self._client is None:
                self._client = self._make()
            return lent(self._client)


class _Loop:
    """The loop of the attempts, for callers in threads."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return self._loop.is_running()

    def wait(self, coroutine: Coroutine[object, None, T]) -> T:
        """Run a coroutine on the loop, and return its result."""
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            raise InfrastructureError("this worker has stopped, and its client is closed") from None
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """It belongs to the worker."""
