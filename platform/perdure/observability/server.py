"""`/metrics`, `/health/live` and `/health/ready`, on a port of their own.

It has its own connection limits, loop and thread, so health answers even if other ports of the
process are overloaded.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from prometheus_client.exposition import choose_encoder

from perdure.errors import InfrastructureError
from perdure.observability.accepting import Acceptor, Connection, ConnectionLimits, reason_of
from perdure.observability.health import Health, is_live, is_ready
from perdure.observability.metrics import registry_of
from perdure.threads import WatchedThread

if TYPE_CHECKING:
    from perdure.observability.observed import Observed

REQUEST_S: Final = 10.0
"""Seconds for a request to arrive, and for the client to accept its answer."""
IDLE_S: Final = 120.0
"""Seconds between two requests of one connection; scrapers ask at least every minute."""
HEAD_BYTES: Final = 16 * 1024
CONNECTIONS: Final = 64
"""The most connections: scrapers and probes are few; the oldest idle one is closed for a new
one."""
BACKLOG: Final = 1_024
_THREADS: Final = 2
"""Threads for blocking work: metrics count workflows in the database."""


class _Answer(NamedTuple):
    status: HTTPStatus
    content_type: str
    body: bytes


class ObservabilityServer:
    """A small HTTP server in a separate thread; listens when created, answers once started.

    Args:
        observed: the parts to report on.
        host: the address to listen on; loopback, unless other machines need access.
        port: the port; 0: any free one.

    Raises:
        InfrastructureError: the port is taken.
    """

    def __init__(self, observed: Observed, host: str = "127.0.0.1", port: int = 0) -> None:
        self._observed = observed
        self._registry = registry_of(observed)
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, port), family=family, backlog=BACKLOG)
        except OSError as error:
            raise InfrastructureError(
                f"cannot listen at {host}:{port}: {reason_of(error)}; choose another with --metrics-port"
            ) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._acceptor = Acceptor(
            self._socket,
            ConnectionLimits(
                connections=CONNECTIONS, per_address=0, header_bytes=HEAD_BYTES, header_s=REQUEST_S
            ),
        )
        self._loop = asyncio.new_event_loop()
        self._pool = ThreadPoolExecutor(_THREADS, "perdure-metrics")
        self._connections: set[_Connection] = set()
        self._thread = WatchedThread(target=self._run, name="perdure-metrics")
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}"

    def start(self) -> None:
        """Start answering."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering. Idempotent."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        elif not self._loop.is_closed():
            self._loop.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._socket.close()

    async def answer(self, path: str, accept: str) -> _Answer:
        """The response for a path.

        Args:
            path: without its query.
            accept: the media types that are understood.
        """
        match path:
            case "/metrics":
                encode, content_type = choose_encoder(accept)
                body = await self._loop.run_in_executor(self._pool, encode, self._registry)
                return _Answer(HTTPStatus.OK, content_type, body)
            case "/health/live":
                return _of_health(is_live(self._observed))
            case "/health/ready":
                return _of_health(await self._loop.run_in_executor(self._pool, is_ready, self._observed))
            case _:
                paths = b"try /metrics, /health/live or /health/ready\n"
                return _Answer(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", paths)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._begin())
            self._loop.run_forever()
            for connection in self._connections.copy():
                connection.give_way()
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, asyncio.sleep(0), return_exceptions=True))
        finally:
            self._acceptor.close()
            self._loop.close()

    async def _begin(self) -> None:
        self._acceptor.start(lambda address: _Connection(self, self._acceptor, address, self._connections))


def _of_health(health: Health) -> _Answer:
    """The response about health, as JSON: 200 when all is well, else 503."""
    status = HTTPStatus.OK if health.is_well else HTTPStatus.SERVICE_UNAVAILABLE
    body = {"status": "ok" if health.is_well else "unavailable", "waiting_for": list(health.reasons)}
    return _Answer(status, "application/json", json.dumps(body).encode() + b"\n")


class _Connection(Connection):
    """A connection that handles GET and HEAD requests, one after the other, and no other part of
    HTTP.
    """

    def __init__(
        self, server: ObservabilityServer, acceptor: Acceptor, address: str, open_: set[_Connection]
    ) -> None:
        self.address = address
        self._server = server
        self._acceptor = acceptor
        self._open = open_
        self._transport: Any = None
        self._buffer = bytearray()
        self._deadline = time.monotonic() + REQUEST_S
        self._task: asyncio.Task[None] | None = None
        self._is_unwanted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the timeout of the first request."""
        self._transport = transport
        self._open.add(self)
        if self._is_unwanted:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Free the connection's place in the count."""
        self._acceptor.closed(self)
        self._open.discard(self)
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse a part of a request, or of several."""
        if not self._buffer and self._task is None:
            self._deadline = time.monotonic() + REQUEST_S
        self._buffer += data
        if len(self._buffer) > HEAD_BYTES:
            self._acceptor.counts.too_large += 1
            self._end(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self._task is None:
            self._next()

    def sweep(self, now: float) -> None:
        """Close what is overdue."""
        if now > self._deadline:
            self._acceptor.counts.timed_out += 1
            self._transport.abort()

    def give_way(self) -> None:
        """Close immediately."""
        self._is_unwanted = True
        if self._transport is not None:
            self._transport.abort()

    def _next(self) -> None:
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        self._buffer = rest
        lines = head.decode("latin-1").split("\r\n")
        parts = lines[0].split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            self._end(HTTPStatus.BAD_REQUEST)
            return
        if parts[0] not in {"GET", "HEAD"}:
            self._end(HTTPStatus.METHOD_NOT_ALLOWED)
            return
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:])
        }
        self._acceptor.works(self)
        self._deadline = float("inf")
        self._task = asyncio.get_running_loop().create_task(
            self._answer(parts[0], parts[1], parts[2], headers)
        )

    async def _answer(self, method: str, target: str, version: str, headers: dict[str, str]) -> None:
        try:
            found = await self._server.answer(target.partition("?")[0], headers.get("accept", ""))
        except Exception as error:  # noqa: BLE001 - the scraper gets the error; the next one may be luckier
            text = f"{type(error).__name__}: {error}\n".encode()
            found = _Answer(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", text)
        has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        is_last = has_body or version != "HTTP/1.1" or "close" in headers.get("connection", "").lower()
        self._task = None
        self._write(found, is_last=is_last, has_body=method != "HEAD")
        self._acceptor.waits(self)
        self._deadline = time.monotonic() + (REQUEST_S if self._buffer or is_last else IDLE_S)
        if not is_last:
            self._next()

    def _end(self, status: HTTPStatus) -> None:
        self._write(
            _Answer(status, "text/plain; charset=utf-8", status.phrase.encode() + b"\n"), is_last=True
        )

    def _write(self, answer: _Answer, *, is_last: bool, has_body: bool = True) -> None:
        if self._transport.is_closing():
            return
        head = (
            f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\nContent-Type: "
            f"{answer.content_type}\r\n"
            f"Content-Length: {len(answer.body)}\r\nCache-Control: no-store\r\n"
            + ("Connection: close\r\n" * is_last)
            + "\r\n"
        )
        self._transport.write(head.encode() + (answer.body if has_body else b""))
        if is_last:
            self._transport.close()
