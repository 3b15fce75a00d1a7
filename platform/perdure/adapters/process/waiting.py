"""Futures that wait for replies."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from perdure.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perdure.model.replies import AnyReply

T = TypeVar("T")


class Waiting:
    """The futures of an asyncio loop that wait for replies, by request id. Belongs to the loop's
    thread.
    """

    __slots__ = ("_futures", "_loop")

    def __init__(self) -> None:
        self._futures: dict[str, list[asyncio.Future[AnyReply]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, request_id: str) -> asyncio.Future[AnyReply]:
        """Create the future for the reply to a request; call `remove` in the end."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._futures:
                raise UsageError("this client is in use on another asyncio loop: connect one for each loop")
            self._loop = loop
        future: asyncio.Future[AnyReply] = loop.create_future()
        self._futures.setdefault(request_id, []).append(future)
        return future

    def remove(self, request_id: str, future: asyncio.Future[AnyReply]) -> None:
        """Forget the future of a request."""
        futures = self._futures.get(request_id, [])
        if future in futures:
            futures.remove(future)
            if not futures:
                del self._futures[request_id]

    def resolve(self, replies: Sequence[AnyReply]) -> None:
        """Resolve the future of a reply's request."""
        for reply in replies:
            for future in self._futures.get(reply.request_id, ()):
                if not future.done():
                    future.set_result(reply)

    def fail(self, error: Exception) -> None:
        """Fail all waiting futures."""
        for futures in self._futures.values():
            for future in futures:
                if not future.done():
                    future.set_exception(error)
                    # mark as retrieved: a request that was just cancelled does not read the
                    # exception, and asyncio would complain
                    future.exception()

    def resolve_from_thread(self, replies: Sequence[AnyReply]) -> None:
        """`resolve`, from any thread; one call for the loop."""
        self._call(self.resolve, replies)

    def fail_from_thread(self, error: Exception) -> None:
        """`fail`, from any thread."""
        self._call(self.fail, error)

    def _call(self, function: Callable[[T], None], argument: T) -> None:
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop is closed: there are no waiters
                loop.call_soon_threadsafe(function, argument)
