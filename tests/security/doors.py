"""Servers to knock at, and raw connections to do it with."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, Self

import uvicorn

from perdure.api.listening import listening
from perdure.api.server import LimitedServer
from perdure.observability.accepting import Acceptor, ConnectionLimits


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the length of the body; at /early before it has come."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    size, more = 0, scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = b"%d" % size
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]}
    )
    await send({"type": "http.response.body", "body": body})


class Door:
    """A server, and what it counts."""

    def __init__(self, acceptor: Acceptor, port: int) -> None:
        self.acceptor = acceptor
        self.port = port

    def knock(self, data: bytes = b"") -> Knocker:
        return Knocker(self.port, data)

    def until(self, condition: Callable[[Acceptor], Any]) -> None:
        """Wait until it holds."""
        deadline = time.monotonic() + 20
        while not condition(self.acceptor):
            assert time.monotonic() < deadline, (self.acceptor.counts, self.acceptor.open)
            time.sleep(0.005)


@contextlib.contextmanager
def door(limits: ConnectionLimits | None = None, app: Any = echo) -> Generator[Door]:
    """A server in a thread."""
    listener = listening("127.0.0.1", 0)
    port = listener.getsockname()[1]
    acceptor = Acceptor(listener, limits or ConnectionLimits())
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="error",
        access_log=False,
        http="httptools",
        timeout_graceful_shutdown=1,
    )
    server = LimitedServer(config, acceptor)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield Door(acceptor, port)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


class Knocker:
    """A raw connection."""

    def __init__(self, port: int, data: bytes = b"") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if data:
            self.socket.sendall(data)

    def send(self, data: bytes) -> bool:
        """Whether it went out."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def answer(self) -> bytes:
        """One response, its body by its length."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += (part := self.socket.recv(65_536))
            if not part:
                return data
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        while len(body) < length and (part := self.socket.recv(65_536)):
            body += part
        return head + b"\r\n\r\n" + body

    def is_closed(self) -> bool:
        """Wait for the end; nothing else may come."""
        try:
            return self.socket.recv(65_536) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def parts(data: bytes, size: int) -> Iterator[bytes]:
    """The same in pieces."""
    return (data[at : at + size] for at in range(0, len(data), size))
