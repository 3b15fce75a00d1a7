"""`/metrics`, `/health/live` and `/health/ready`, on a port of their own."""

from __future__ import annotations

import json
import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.exposition import choose_encoder

from perdure.errors import InfrastructureError
from perdure.observability.health import Health, is_live, is_ready
from perdure.observability.metrics import registry_of

if TYPE_CHECKING:
    from perdure.observability.observed import Observed

REQUEST_S: Final = 10.0
"""A connection that says nothing for so long is closed."""


class ObservabilityServer:
    """A small HTTP server in a thread of its own; listens as soon as it is made, answers once it is started.

    Args:
        observed: what is told about.
        host: to listen at; loopback unless others shall see it.
        port: the same; 0 for any free one.

    Raises:
        InfrastructureError: the port is taken.
    """

    def __init__(self, observed: Observed, host: str = "127.0.0.1", port: int = 0) -> None:
        registry = registry_of(observed)

        class Handler(_Handler):
            def answer(self) -> None:
                match self.path.partition("?")[0]:
                    case "/metrics":
                        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                        self.send(HTTPStatus.OK, content_type, encode(registry))
                    case "/health/live":
                        self.tell(is_live(observed))
                    case "/health/ready":
                        self.tell(is_ready(observed))
                    case _:
                        paths = b"try /metrics, /health/live or /health/ready\n"
                        self.send(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", paths)

        try:
            self._server = _Server((host, port), Handler)
        except OSError as error:
            raise InfrastructureError(
                f"cannot listen at {host}:{port}: {error.strerror}; choose another with --metrics-port"
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="perdure-metrics", daemon=True)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_address[1]}"

    def start(self) -> None:
        """Answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no longer. Idempotent."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a scraper that keeps its connection open must not hold a stop up

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Without the look-up of our own name, which may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of a process before us may linger
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "perdure"
    sys_version = ""
    timeout = REQUEST_S

    def answer(self) -> None:
        """Answer a GET."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Answer, whatever happens."""
        try:
            self.answer()
        except Exception as error:  # noqa: BLE001 - the scraper is told; the next one may be luckier
            self.send(
                HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", f"{type(error).__name__}: {error}\n".encode()
            )

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def tell(self, health: Health) -> None:
        """As JSON: 200 when it is well, else 503."""
        status = HTTPStatus.OK if health.is_well else HTTPStatus.SERVICE_UNAVAILABLE
        body = {"status": "ok" if health.is_well else "unavailable", "waiting_for": list(health.reasons)}
        self.send(status, "application/json", json.dumps(body).encode() + b"\n")

    def send(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        """The whole response."""
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are not worth a line."""
