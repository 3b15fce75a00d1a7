"""Requests from the engine's own process."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final, TypeVar, cast
from uuid import uuid4

from msgspec.structs import replace

from perdure.adapters.process.waiting import Waiting
from perdure.client.position import EVERYTHING, Position
from perdure.errors import EngineUnavailable
from perdure.model.addresses import Local

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perdure.adapters.process.channel import Channel
    from perdure.client.ports import Reader
    from perdure.model.commands import AnyCommand, Request
    from perdure.model.replies import AnyReply

T = TypeVar("T")

_ENDED: Final = "the engine of this process has stopped; start it and retry: that is safe"


class LocalTransport:
    """`client.ports.Transport` through the channel of this process's engine.

    Args:
        channel: the engine's.
        reader: of the same medium; closed with the transport.
    """

    def __init__(self, channel: Channel, reader: Reader) -> None:
        self._channel = channel
        self._reader = reader
        self._address = str(Local(uuid4().hex))
        self._waiting = Waiting()
        self._is_closed = False
        channel.deliveries.subscribe_replies(self._address, self._waiting.resolve_from_thread, self._ended)

    @property
    def reader(self) -> Reader:
        """The reader of the same medium."""
        return self._reader

    @property
    def is_reader_near(self) -> bool:
        """True: reading one state is a look-up."""
        return True

    async def read(self, question: Callable[[Reader], T]) -> T:
        """Call the reader in a thread: a list, or a history, may be large."""
        return await asyncio.to_thread(question, self._reader)

    async def position(self, workflow_id: str) -> Position:
        """No position is needed: every read sees everything that was answered before it."""
        return EVERYTHING

    async def request(self, command: Request, timeout_s: float) -> AnyReply:
        """Send a request, and wait for the reply."""
        if self._is_closed:
            raise EngineUnavailable("this client is closed: connect again")
        future = self._waiting.add(command.request_id)
        try:
            if self._channel.has_ended:
                raise EngineUnavailable(_ENDED)
            self._channel.submit((cast("AnyCommand", replace(command, reply_to=self._address)),))
            if math.isinf(timeout_s):
                return await future
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise EngineUnavailable(
                f"the engine of this process did not answer {type(command).__name__} within {timeout_s:g} "
                "s: it has stopped, or it is "
                "busy; look at its log. It is safe to retry."
            ) from None
        finally:
            self._waiting.remove(command.request_id, future)

    def _ended(self) -> None:
        self._waiting.fail_from_thread(EngineUnavailable(_ENDED))

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        """Submit commands without waiting for a reply."""
        self._channel.submit(commands)

    async def close(self) -> None:
        """Close the clients."""
        if not self._is_closed:
            self._is_closed = True
            self._channel.deliveries.unsubscribe_replies(self._address)
            self._waiting.fail(EngineUnavailable("this client was closed while it waited for an answer"))
            self._reader.close()
