"""Serve an app's own web app, its attribute `web`, beside the platform."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

from perdure.errors import InfrastructureError, UsageError

if TYPE_CHECKING:
    from types import ModuleType

GRACE_S = 1
"""Streams of events never end by themselves."""


class WebServer:
    """uvicorn in a thread of its own, on a port that is ours before anything is started.

    Args:
        asgi: the application.
        host: to listen at.
        port: the same; 0 for any free one.

    Raises:
        UsageError: uvicorn is not installed.
        InfrastructureError: the port is taken.
    """

    def __init__(self, asgi: Any, host: str, port: int) -> None:
        try:
            import uvicorn
        except ImportError:
            raise UsageError(
                "the app has a web app (its attribute `web`), and uvicorn is not installed: pip install uvicorn"
            ) from None
        try:
            self._socket = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:
            raise InfrastructureError(f"cannot listen at {host}:{port}: {error.strerror}; choose another with --port") from error
        config = uvicorn.Config(asgi, log_config=None, log_level="error", access_log=False, timeout_graceful_shutdown=GRACE_S)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="perdure-web", daemon=True
        )
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self._socket.getsockname()[1]}"

    @classmethod
    def of(cls, module: ModuleType, host: str, port: int) -> WebServer | None:
        """The server of a module's attribute `web`; None when it has none."""
        asgi = getattr(module, "web", None)
        if asgi is None or isinstance(asgi, type(module)):
            return None
        if not callable(asgi):
            raise UsageError(
                f"{module.__name__}.web is {type(asgi).__name__}, not an ASGI application; give it another name if it is not meant to be"
            )
        return cls(asgi, host, port)

    def start(self) -> None:
        """Serve; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests; those that are open have a second."""
        self._server.should_exit = True

    def join(self) -> None:
        """Wait until it has stopped, and free the port."""
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()
