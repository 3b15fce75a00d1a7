"""The real API on a port of its own, for transports that go through it."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

from perdure.adapters.process.state_feed import LocalStateFeed
from perdure.adapters.process.transport import LocalTransport
from perdure.api.app import create_app
from perdure.api.auth.security import Unsecured
from perdure.api.backend import Backend

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.contract.media import Media, Node


@contextmanager
def served(media: Media, node: Node) -> Generator[str]:
    """The URL of an API in front of the engine of a node, until the block ends."""
    transport = LocalTransport(node.channel, media.reader())
    app = create_app(Backend("test", transport, LocalStateFeed(node.channel)), Unsecured())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # asyncio does so for sockets that it makes itself
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = uvicorn.Config(
            app, log_level="critical", access_log=False, timeout_graceful_shutdown=0, lifespan="on", ws="none"
        )
        server = uvicorn.Server(config)
        has_begun = threading.Event()
        startup = server.startup

        async def begun(sockets: list[socket.socket] | None = None) -> None:
            await startup(sockets)
            has_begun.set()

        server.startup = begun  # type: ignore[method-assign]
        thread = threading.Thread(target=server.run, args=([listener],), name="api")
        thread.start()
        try:
            assert has_begun.wait(10)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
