"""A transport that sends a client's requests through its interceptors."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from perdure import interceptor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perdure.client.ports import Reader, Transport
    from perdure.client.position import Position
    from perdure.interceptor import Interceptor
    from perdure.model.commands import AnyCommand, Request
    from perdure.model.replies import AnyReply

T = TypeVar("T")


class InterceptedTransport:
    """`Transport` with interceptors around its requests.

    Args:
        transport: carries the requests.
        interceptors: those of the client, outermost first; those of the process come before them.
        is_borrowed: closing it leaves the transport open.
    """

    def __init__(
        self, transport: Transport, interceptors: Sequence[Interceptor], *, is_borrowed: bool = False
    ) -> None:
        self._transport = transport
        self._interceptors = interceptors
        self._is_borrowed = is_borrowed

    def borrowed(self) -> InterceptedTransport:
        """The same for others, who cannot close it."""
        return InterceptedTransport(self._transport, self._interceptors, is_borrowed=True)

    @property
    def reader(self) -> Reader:
        """See `Transport`."""
        return self._transport.reader

    @property
    def is_reader_near(self) -> bool:
        """See `Transport`."""
        return self._transport.is_reader_near

    async def read(self, question: Callable[[Reader], T]) -> T:
        """See `Transport`."""
        return await self._transport.read(question)

    async def position(self, workflow_id: str) -> Position:
        """See `Transport`."""
        return await self._transport.position(workflow_id)

    async def request(self, command: Request, timeout_s: float) -> AnyReply:
        """See `Transport`."""
        if found := interceptor.at("request", self._interceptors):
            return await interceptor.around_request(
                found, lambda sent: self._transport.request(sent, timeout_s)
            )(command)
        return await self._transport.request(command, timeout_s)

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        """See `Transport`."""
        self._transport.submit(commands)

    async def close(self) -> None:
        """See `Transport`."""
        if not self._is_borrowed:
            await self._transport.close()
