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
"""Streams of events never end by themselves."""
BODY_S = 600.0
"""Timeout of request bodies; your web app may accept large files."""


class WebServer:
    """uvicorn in a separate thread, on a port that is ours before anything is started.

    Args:
        asgi: the application.
        host: to listen at.
        port: the same; 0 for any free one, which stays the same over reloads.

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
        """The server of a module's attribute `web`; None when it has none."""
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
        """Serve; returns immediately."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests; those that are open have a second."""
        self._server.should_exit = True

    def join(self) -> None:
        """Wait until it has stopped, and free the port."""
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()
