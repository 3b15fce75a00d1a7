"""The API's listening socket: opened first, so that a used port is reported immediately."""

from __future__ import annotations

import socket
from typing import Final

from perdure.errors import InfrastructureError

BACKLOG: Final = 2_048
UNHEARD_MS: Final = 60_000
"""A reader whose machine takes nothing for so long is gone: else what is meant for it would be kept
for ever."""


def listening(host: str, port: int, advice: str = "choose another port") -> socket.socket:
    """Open a listening socket; accepted sockets inherit its options.

    Args:
        host: to listen at.
        port: the same; 0: any that is free.
        advice: what to do when it is taken.

    Raises:
        InfrastructureError: the port is taken, or the host is not this machine's.
    """
    try:
        found = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=BACKLOG
        )
    except OSError as error:
        raise InfrastructureError(f"cannot listen at {host}:{port}: {error.strerror}; {advice}") from error
    # asyncio does so only for sockets that it makes: 40 ms
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNHEARD_MS)
    return found
