"""uvicorn around the application: accepts within limits, and ends streams before it closes
connections.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from perdure.api.listening import listening
from perdure.api.protocol import LimitedProtocol
from perdure.observability.accepting import Acceptor, ConnectionLimits
from perdure.threads import WatchedThread

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Generator

_logger: Final = logging.getLogger("perdure.api")
GRACE_S: Final = 10
KEPT_S: Final = 75
"""How long an idle connection is kept: longer than load balancers keep theirs, or they would send
on a connection that is just being closed."""


class ApiServer:
    """The HTTP server. Its port is opened before anything is started.

    Args:
        app: the result of `create_app`.
        host: the address to listen on.
        port: the port; 0: any free one.
        grace_s: how long open requests may take when the server stops, whole seconds.
        listener: a socket from `listening`, if already open.
        limits: limits on connections.

    Attributes:
        acceptor: accepts its connections.

    Raises:
        InfrastructureError: the port is taken.
    """

    def __init__(
        self,
        app: Any,
        host: str,
        port: int,
        *,
        grace_s: int = GRACE_S,
        listener: socket.socket | None = None,
        limits: ConnectionLimits | None = None,
    ) -> None:
        self._socket = listener or listening(host, port)
        self.acceptor = Acceptor(self._socket, limits or ConnectionLimits())
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
        self._server = LimitedServer(config, self.acceptor, app.hub.say_goodbye)
        self._thread: WatchedThread | None = None
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self._socket.getsockname()[1]}"

    def start(self) -> None:
        """Serve in a separate thread; returns immediately."""
        self._thread = WatchedThread(target=self.run, name="perdure-api")
        self._thread.start()

    def run(self) -> None:
        """Serve on this thread, until `stop`."""
        _logger.info("started at %s", self.url)
        try:
            self._server.run()
        finally:
            _logger.info("stopped")

    def stop(self) -> None:
        """Accept no more requests; end streams, and give other requests the grace period. Returns
        immediately.
        """
        self._server.should_exit = True

    def join(self) -> None:
        """Wait until the server has stopped, and free the port."""
        if self._thread is not None and self._thread.is_alive():
            self._thread.join()
        self._socket.close()


class LimitedServer(uvicorn.Server):
    """A uvicorn server whose connections come from an acceptor.

    Args:
        config: uvicorn's configuration.
        acceptor: accepts connections on a listening socket.
        say_goodbye: called before connections are shut down.
    """

    def __init__(
        self, config: uvicorn.Config, acceptor: Acceptor, say_goodbye: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(config)
        self._acceptor = acceptor
        self._say_goodbye = say_goodbye

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to the command line."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then accept."""
        await super().startup(sockets=[])
        if not self.should_exit:
            self._acceptor.start(self._protocol)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, end the streams, then shut down as uvicorn does."""
        self._acceptor.close()
        self._say_goodbye()
        await super().shutdown()

    def _protocol(self, address: str) -> LimitedProtocol:
        return LimitedProtocol(
            self._acceptor,
            address,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
