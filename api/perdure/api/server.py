"""uvicorn around the application, which is told before its streams are cut."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from perdure.api.listening import listening

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

GRACE_S: Final = 10
KEPT_S: Final = 75
"""An idle connection; longer than load balancers keep theirs, else they would send on one that is just being closed."""


class ApiServer:
    """On a port that is ours before anything is started.

    Args:
        app: of `create_app`.
        host: to listen at.
        port: the same; 0: any that is free.
        grace_s: for requests that are open when it stops, whole seconds.
        listener: of `listening`, when it was made before.

    Raises:
        InfrastructureError: the port is taken.
    """

    def __init__(self, app: Any, host: str, port: int, grace_s: int = GRACE_S, listener: socket.socket | None = None) -> None:
        self._socket = listener or listening(host, port)
        self._app = app
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="error",
            access_log=False,
            timeout_graceful_shutdown=grace_s,
            timeout_keep_alive=KEPT_S,
            http="httptools",
            ws="none",
            server_header=False,
        )
        self._server = _Server(config, app.hub.say_goodbye)
        self._thread: threading.Thread | None = None
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self._socket.getsockname()[1]}"

    def start(self) -> None:
        """Serve in a thread of its own; returns at once."""
        self._thread = threading.Thread(target=self.run, name="perdure-api", daemon=True)
        self._thread.start()

    def run(self) -> None:
        """Serve here, until `stop`."""
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """Take no more requests; streams are told, other requests have the grace. Returns at once."""
        self._server.should_exit = True

    def join(self) -> None:
        """Wait until it has stopped, and free the port."""
        if self._thread is not None and self._thread.is_alive():
            self._thread.join()
        self._socket.close()


class _Server(uvicorn.Server):
    """Signals are the command line's; before connections are shut down, those who watch are told."""

    def __init__(self, config: uvicorn.Config, say_goodbye: Callable[[], None]) -> None:
        super().__init__(config)
        self._say_goodbye = say_goodbye

    def install_signal_handlers(self) -> None:
        """Not ours to catch."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does it, after a word."""
        self._say_goodbye()
        await super().shutdown(sockets)
