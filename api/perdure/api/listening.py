"""The API's listening socket: opened first, so that a used port is reported immediately."""

from __future__ import annotations

import socket
from typing import Final

from perdure.errors import InfrastructureError
from perdure.observability.accepting import reason_of

BACKLOG: Final = 2_048
UNHEARD_MS: Final = 60_000
"""A peer that acknowledges nothing for this long is disconnected; otherwise its data would be kept
for ever."""


def listening(host: str, port: int, advice: str = "choose another port") -> socket.socket:
    """Open a listening socket; accepted sockets inherit its options.

    Args:
        host: the address to listen on.
        port: the port; 0: any free one.
        advice: what to do if the port is taken, for the message.

    Raises:
        InfrastructureError: the port is taken, or the host is not this machine's.
    """
    try:
        found = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=BACKLOG
        )
    except OSError as error:
        raise InfrastructureError(f"cannot listen at {host}:{port}: {reason_of(error)}; {advice}") from error
    # asyncio does this only for sockets that it creates; it saves 40 ms
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNHEARD_MS)
    return found
