"""uvicorn's HTTP protocol, with limits on what an unauthenticated client may send.

The size and time of a request's line and headers are limited, as are the time of its body and the
size of the data around it (chunk headers, trailers). If a request is rejected before its body has
arrived, it is answered and the connection is closed. The server closes its own side first and
discards input for a moment, so that the client can read the answer.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from perdure.api.problems import problem
from perdure.api.sending import ABORT
from perdure.observability.accepting import LINGER_BYTES, LINGER_S, Connection

if TYPE_CHECKING:
    from perdure.observability.accepting import Acceptor

NEVER: Final = float("inf")
OVERHEAD: Final = 6
"""The allowed bytes around the body per byte of the body: a chunk of one byte has five around
it."""
STALL_S: Final = 60.0
"""A client that accepts no part of its answer for this long is disconnected."""


class LimitedProtocol(HttpToolsProtocol, Connection):
    """One connection.

    Args:
        acceptor: accepted the connection.
        address: the client's address.
        uvicorn: the arguments that uvicorn gives its protocols.
    """

    def __init__(self, acceptor: Acceptor, address: str, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self.address = address
        self._acceptor = acceptor
        self._limits = acceptor.limits
        self._deadline = NEVER
        self._received = 0  # bytes of the message so far
        self._body = 0  # bytes of its body
        self._chunk = 0  # bytes of the last data, which may hold several messages
        self._is_reading = False  # a message has begun and not ended
        self._has_head = False  # its headers are complete
        self._keeps_alive = False  # after its response, says the request
        self._is_draining = False
        self._is_made = False
        self._is_unwanted = False
        self._unsent, self._unsent_since = 0, NEVER

    # ---- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the timeout of the first request."""
        super().connection_made(_Lingering(transport, self))  # type: ignore[arg-type]
        self._deadline = time.monotonic() + self._limits.header_s
        self._is_made = True
        if self._is_unwanted:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Free the connection's place in the count."""
        self._acceptor.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, up to the limit."""
        self._received += len(data)
        self._chunk = len(data)
        if self._is_draining:
            if self._received > LINGER_BYTES:
                self.transport.abort()
            return
        if self._deadline == NEVER:
            self._deadline = time.monotonic() + self._limits.header_s
        super().data_received(data)
        most = self._limits.header_bytes + OVERHEAD * self._body
        if self._received - self._body > most and not self.transport.is_closing():
            self._refuse_headers()

    def sweep(self, now: float) -> None:
        """Close the connection if its request is overdue."""
        if now > self._deadline:
            self._expire()
        elif self._is_made and self.flow.write_paused:
            left = self.transport.get_write_buffer_size()
            if self._unsent_since == NEVER or left < self._unsent:
                self._unsent, self._unsent_since = left, now
            elif now - self._unsent_since > STALL_S:
                self.transport.abort()
        else:
            self._unsent_since = NEVER

    def give_way(self) -> None:
        """Close the idle connection to make room for another one."""
        self._is_unwanted = True
        if self._is_made:
            self.transport.abort()

    def shutdown(self) -> None:
        """Accept no further request on this connection."""
        self._keeps_alive = False
        super().shutdown()

    # ---- the parser's side

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_reading, self._has_head = True, False
        self._deadline = time.monotonic() + self._limits.header_s
        super().on_message_begin()
        extensions: Any = self.scope.setdefault("extensions", {})
        extensions[ABORT] = self.transport.abort

    def on_headers_complete(self) -> None:
        """Pass the request to the application, unless it was pipelined and is too large."""
        if (
            max(self._received, self._chunk) > self._limits.header_bytes
            and _head_bytes(self) > self._limits.header_bytes
        ):
            self._refuse_headers()
        if self._is_draining:
            raise ValueError("no further request")  # ends the parser, which is not fed any more
        self._has_head = True
        self._deadline = time.monotonic() + self._limits.body_s
        super().on_headers_complete()
        self._acceptor.works(self)
        if self._is_upgraded():
            return
        # Until the body has arrived, a response says that the connection is closed after it: the
        # rest of the body is not read.
        self._keeps_alive, self.cycle.keep_alive = self.cycle.keep_alive, False

    def on_body(self, body: bytes) -> None:
        """Count a part of the body."""
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._is_reading = False
        self._received = self._body = 0
        self._deadline = NEVER
        if not self._is_upgraded() and not self.cycle.response_started:
            self.cycle.keep_alive = self._keeps_alive
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The response was sent: the connection may be closed in favour of a new one."""
        super().on_response_complete()
        if not self.pipeline:
            self._acceptor.waits(self)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to another protocol; it keeps its place in the count."""
        super().handle_websocket_upgrade()
        successor = self.transport.get_protocol()
        lost = successor.connection_lost

        def connection_lost(exc: Exception | None) -> None:
            self._acceptor.closed(self)
            lost(exc)

        successor.connection_lost = connection_lost  # type: ignore[method-assign]

    def send_400_response(self, msg: str) -> None:
        """Respond to input that is not HTTP."""
        if not self._is_draining:
            self._refuse("bad-request", "this is not HTTP/1.1")

    # ---- refusals

    def linger(self) -> None:
        """Discard further input until the client closes or the time has passed."""
        self._is_draining = True
        self._received = 0
        self._deadline = time.monotonic() + LINGER_S
        self.flow.resume_reading()

    @property
    def may_be_sending(self) -> bool:
        """Whether the client may be in the middle of a request."""
        return self._is_reading

    def _is_upgraded(self) -> bool:
        parser: Any = self.parser
        return bool(parser.should_upgrade() and self._should_upgrade())

    def _expire(self) -> None:
        if self._is_draining or self._has_head:
            self.transport.abort()
            return
        self._acceptor.counts.timed_out += 1
        self._refuse("request-timeout", f"the headers were not complete within {self._limits.header_s:g} s")

    def _refuse_headers(self) -> None:
        self._acceptor.counts.too_large += 1
        self._refuse("headers-too-large", f"the headers are larger than {self._limits.header_bytes} bytes")

    def _refuse(self, slug: str, detail: str) -> None:
        """Answer without asking the application, and close."""
        self._is_reading = True
        cycle: Any = self.cycle  # None before the first request
        # an earlier request is being answered, or this one's headers have arrived
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.abort()
                return
        found = problem(slug, detail)
        body = found.body()
        head = (
            *(b"%b: %b\r\n" % header for header in self.server_state.default_headers),
            b"content-type: application/problem+json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            % len(body),
        )
        self.transport.write(b"".join((STATUS_LINE[found.status], *head, body)))
        self.transport.close()


def _head_bytes(protocol: LimitedProtocol) -> int:
    return len(protocol.url) + sum(len(name) + len(value) + 4 for name, value in protocol.headers)


class _Lingering:
    """A transport whose `close` lets a client that is still sending read the answer.

    Closing a socket with unread input resets the connection, and the client may lose the answer.
    """

    def __init__(self, transport: Any, protocol: LimitedProtocol) -> None:
        self._transport = transport
        self._protocol = protocol
        self._is_closing = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write, unless `close` was called."""
        if not self._is_closing:
            self._transport.write(data)

    def is_closing(self) -> bool:
        """Whether `close` was called."""
        return self._is_closing or self._transport.is_closing()

    def close(self) -> None:
        """Close immediately, or once the client has read."""
        if self.is_closing():
            return
        if self._protocol.may_be_sending and self._transport.can_write_eof():
            self._is_closing = True
            self._protocol.linger()
            self._transport.write_eof()
        else:
            self._transport.close()
