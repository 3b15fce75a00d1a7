"""Requests from the engine's own process."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from msgspec.structs import replace

from perdure.errors import EngineUnavailable, UsageError
from perdure.log.addresses import local_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.client.ports import Reader
    from perdure.log.channel import Channel
    from perdure.model.commands import AnyCommand, Request
    from perdure.model.replies import AnyReply


class Waiting:
    """The futures of an asyncio loop that wait for replies, by request id. Belongs to the loop's thread."""

    __slots__ = ("_futures", "_loop")

    def __init__(self) -> None:
        self._futures: dict[str, list[asyncio.Future[AnyReply]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """Where the futures live; None before the first."""
        return self._loop

    def add(self, request_id: str) -> asyncio.Future[AnyReply]:
        """A future of the reply to the request; `remove` it in the end."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._futures:
                raise UsageError("this client is in use on another asyncio loop: connect one for each loop")
            self._loop = loop
        future: asyncio.Future[AnyReply] = loop.create_future()
        self._futures.setdefault(request_id, []).append(future)
        return future

    def remove(self, request_id: str, future: asyncio.Future[AnyReply]) -> None:
        """Nobody waits on this future any more."""
        futures = self._futures.get(request_id, [])
        if future in futures:
            futures.remove(future)
            if not futures:
                del self._futures[request_id]

    def resolve(self, replies: Sequence[AnyReply]) -> None:
        """Answer who waits."""
        for reply in replies:
            for future in self._futures.get(reply.request_id, ()):
                if not future.done():
                    future.set_result(reply)

    def fail(self, error: EngineUnavailable) -> None:
        """Nobody is going to answer."""
        for futures in self._futures.values():
            for future in futures:
                if not future.done():
                    future.set_exception(error)

    def resolve_from_thread(self, replies: Sequence[AnyReply]) -> None:
        """`resolve`, from any thread; one call for the loop."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(self.resolve, replies)
            except RuntimeError:  # closed meanwhile: nobody waits
                return


class LocalTransport:
    """`client.ports.Transport` through the channel of this process's engine.

    Args:
        channel: the engine's.
        reader: of the same medium; closed with the transport.
    """

    def __init__(self, channel: Channel, reader: Reader) -> None:
        self._channel = channel
        self._reader = reader
        self._address = local_address()
        self._waiting = Waiting()
        self._is_closed = False
        channel.subscribe_replies(self._address, self._waiting.resolve_from_thread)

    @property
    def reader(self) -> Reader:
        """Of the same medium."""
        return self._reader

    async def request(self, command: Request, timeout_s: float) -> AnyReply:
        """Ask, and wait for the answer."""
        if self._is_closed:
            raise EngineUnavailable("this client is closed: connect again")
        future = self._waiting.add(command.request_id)
        try:
            self._channel.submit((replace(command, reply_to=self._address),))
            if math.isinf(timeout_s):
                return await future
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise EngineUnavailable(
                f"the engine of this process gave no answer to {type(command).__name__} within {timeout_s:g} s: it has stopped, or it is "
                "busy; look at its log. Asking again is safe."
            ) from None
        finally:
            self._waiting.remove(command.request_id, future)

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        """Hand over commands that nobody waits for."""
        self._channel.submit(commands)

    async def close(self) -> None:
        """Let go."""
        if not self._is_closed:
            self._is_closed = True
            self._channel.unsubscribe_replies(self._address)
            self._waiting.fail(EngineUnavailable("this client was closed while it waited for an answer"))
            self._reader.close()
