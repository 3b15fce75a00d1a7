"""The transport of a client: its requests go through the client's interceptors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from perdure import interceptor

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

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
        interceptors: of the client, outermost first; those of the process come before them.
    """

    def __init__(self, transport: Transport, interceptors: Sequence[Interceptor]) -> None:
        self._transport = transport
        self._interceptors = interceptors

    @property
    def reader(self) -> Reader:
        """See `Transport`."""
        return self._transport.reader

    @property
    def is_reader_near(self) -> bool:
        """See `Transport`."""
        return self._transport.is_reader_near

    def read(self, question: Callable[[Reader], T]) -> Coroutine[Any, Any, T]:
        """See `Transport`."""
        return self._transport.read(question)

    def position(self, workflow_id: str) -> Coroutine[Any, Any, Position]:
        """See `Transport`."""
        return self._transport.position(workflow_id)

    def request(self, command: Request, timeout_s: float) -> Coroutine[Any, Any, AnyReply]:
        """See `Transport`."""
        if found := interceptor.at("request", self._interceptors):
            return self._intercepted(found, command, timeout_s)
        return self._transport.request(command, timeout_s)

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        """See `Transport`."""
        self._transport.submit(commands)

    def close(self) -> Coroutine[Any, Any, None]:
        """See `Transport`."""
        return self._transport.close()

    async def _intercepted(self, found: Sequence[Interceptor], command: Request, timeout_s: float) -> AnyReply:
        return await interceptor.around_request(found, lambda sent: self._transport.request(sent, timeout_s))(command)
