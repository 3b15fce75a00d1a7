"""Serve an app's own web app, its attribute `web`, beside the platform."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.cli.lifecycle.reloading import kept_or
from perdure.errors import UsageError
from perdure.observability.accepting import Acceptor, ConnectionLimits
from perdure.threads import WatchedThread

if TYPE_CHECKING:
    from types import ModuleType

GRACE_S = 1
"""How long open requests may take at the stop: event streams never end on their own."""
BODY_S = 600.0
"""Timeout of request bodies; long, since your web app may accept large files."""


class WebServer:
    """uvicorn in a separate thread. Its port is opened before anything is started.

    Args:
        asgi: the application.
        host: the address to listen on.
        port: the port; 0: any free one, which stays the same over reloads.

    Raises:
        UsageError: uvicorn is not installed.
        InfrastructureError: the port is taken.
    """

    def __init__(self, asgi: Any, host: str, port: int) -> None:
        try:
            import uvicorn

            from perdure.api.listening import listening
            from perdure.api.server import LimitedServer
        except ImportError as error:
            raise UsageError(
                f"the app has a web app (its attribute `web`), but {error.name} is not installed: pip "
                "install uvicorn httptools"
            ) from None
        self._socket = kept_or(
            "WEB", port, lambda wanted: listening(host, wanted, "choose another with --port")
        )
        config = uvicorn.Config(
            asgi,
            log_config=None,
            log_level="error",
            access_log=False,
            http="httptools",
            timeout_graceful_shutdown=GRACE_S,
        )
        self._server = LimitedServer(config, Acceptor(self._socket, ConnectionLimits(body_s=BODY_S)))
        self._thread = WatchedThread(target=self._server.run, name="perdure-web")
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self._socket.getsockname()[1]}"

    @classmethod
    def of(cls, module: ModuleType, host: str, port: int) -> WebServer | None:
        """The server of a module's attribute `web`; None if there is no such attribute."""
        asgi = getattr(module, "web", None)
        if asgi is None or isinstance(asgi, type(module)):
            return None
        if not callable(asgi):
            raise UsageError(
                f"{module.__name__}.web is {type(asgi).__name__}, not an ASGI application; give it another "
                "name if it is not meant to be"
            )
        return cls(asgi, host, port)

    def start(self) -> None:
        """Start serving; returns immediately."""
        self._thread.start()

    def stop(self) -> None:
        """Accept no more requests, and give open ones a second."""
        self._server.should_exit = True

    def join(self) -> None:
        """Wait until the server has stopped, and free the port."""
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()
