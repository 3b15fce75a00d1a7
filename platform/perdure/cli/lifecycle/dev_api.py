"""The HTTP API beside the platform of this process: `perdure dev`."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import TYPE_CHECKING, Final

from perdure.cli.extras import has_api
from perdure.cli.lifecycle.reloading import kept_or
from perdure.errors import InfrastructureError
from perdure.threads import WatchedThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.api.backend import Backend
    from perdure.api.server import ApiServer
    from perdure.ports.audit import AuditTrail

HOST: Final = "127.0.0.1"
"""Loopback, since this API has no authentication."""
PORT: Final = 8080
GRACE_S: Final = 1


class DevApi:
    """Listens immediately, but imports its dependencies (half a second) on the first request.

    Args:
        make: creates the backend; called once, at the start.
        port: the port; None: 8080, or a free one if that is taken, which stays the same over
            reloads.

    Raises:
        InfrastructureError: the port is taken.
    """

    def __init__(self, make: Callable[[], tuple[Backend, AuditTrail]], port: int | None) -> None:
        from perdure.api.listening import listening

        self._make = make
        self._socket = kept_or(
            "API",
            port,
            lambda wanted: listening(HOST, wanted, "choose another with --api-port"),
            default=PORT if port is None else None,
        )
        self._woken, self._wakes = socket.socketpair()
        self._server: ApiServer | None = None
        self._is_stopping = threading.Event()
        self._thread = WatchedThread(target=self._run, name="perdure-api")
        self.url = f"http://{HOST}:{self._socket.getsockname()[1]}"

    @classmethod
    def of(cls, make: Callable[[], tuple[Backend, AuditTrail]], port: int | None) -> DevApi | None:
        """The API, or None if its dependencies are not installed."""
        return cls(make, port) if has_api() else None

    def start(self) -> None:
        """Start serving; returns immediately."""
        self._thread.start()

    def stop(self) -> None:
        """Accept no more requests, and give open ones a second. Idempotent."""
        self._is_stopping.set()
        self._wakes.sendall(b"\0")
        if self._server is not None:
            self._server.stop()

    def join(self) -> None:
        """Wait until the API has stopped, and free the port."""
        if self._thread.is_alive():
            self._thread.join()
        for each in (self._socket, self._woken, self._wakes):
            each.close()

    def _run(self) -> None:
        select.select([self._socket, self._woken], [], [])
        if self._is_stopping.is_set():
            return
        from perdure.api.app import create_app
        from perdure.api.audit import AuditLog
        from perdure.api.auth.security import Unsecured
        from perdure.api.server import ApiServer

        backend, trail = self._make()
        app = create_app(backend, Unsecured(), AuditLog(trail))
        self._server = ApiServer(app, HOST, 0, grace_s=GRACE_S, listener=self._socket)
        if self._is_stopping.is_set():
            self._server.stop()
        with contextlib.suppress(InfrastructureError):
            self._server.run()
