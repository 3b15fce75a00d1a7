"""Accepts connections within limits, so that unauthenticated clients cannot use up a server.

Shared by the servers of this project: the HTTP API, an app's own web app in `perdure dev`, and
metrics and health. The rules:

- The number of connections is limited, in all and per address. Above that, a new connection takes
  the place of the oldest one that has no request under way; if every connection has one, the new
  one is answered 503.
- A connection whose request is overdue is closed: its protocol knows the deadline (`sweep`).
- When descriptors run out, accepting pauses, longer each time, and the connections without a
  request give way. asyncio's own server tries again for each place in its backlog, and logs a
  traceback for each try.
- Refusals are counted, and logged at most once a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket

_log: Final = logging.getLogger("perdure.connections")

HEADER_BYTES: Final = 64 * 1024
"""The most bytes of a request's line and headers together; more is answered 431."""
HEADER_S: Final = 15.0
"""Seconds for a request's line and headers, from the connection or the first byte on."""
CONNECTIONS: Final = 10_000
CONNECTIONS_PER_ADDRESS: Final = 1_000
LINGER_S: Final = 2.0
"""Time after a refusal for the client to read the answer; its input is discarded."""
LINGER_BYTES: Final = 256 * 1024
"""The most bytes that are discarded."""
SWEEP_S: Final = 0.5
RESERVED: Final = 128
"""The file descriptors that connections leave to the rest of the process: logs, databases, brokers,
the port of health."""
FEWEST: Final = 16
_BATCH: Final = 64
"""The number of connections that are accepted before other callbacks run on the loop."""
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 1.0
_NOTICE_S: Final = 60.0
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)


def reason_of(error: OSError) -> str:
    """Why a socket cannot listen, without the address that asyncio and `socket` add to it:
    "Address already in use".
    """
    return str(error.strerror).partition(" (while attempting")[0]


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The limits of one server.

    Attributes:
        connections: the most connections in all; fewer if there are not enough descriptors.
        per_address: the most from one address; 0 for no limit, as behind a gateway, whose address
            all connections have.
        header_s: seconds for a request's line and headers.
        header_bytes: the most bytes of both together.
        body_s: seconds for a request's body.
    """

    connections: int = CONNECTIONS
    per_address: int = CONNECTIONS_PER_ADDRESS
    header_s: float = HEADER_S
    header_bytes: int = HEADER_BYTES
    body_s: float = 35.0


class Connection(asyncio.Protocol):
    """A connection, as an acceptor knows it.

    Attributes:
        address: of the client.
    """

    address: str

    def sweep(self, now: float) -> None:
        """Close the connection if it is overdue, at this `time.monotonic()`."""
        raise NotImplementedError

    def give_way(self) -> None:
        """Close immediately, whether set up or not."""
        raise NotImplementedError


@dataclass(slots=True)
class ConnectionCounts:
    """Counters of connections.

    Attributes:
        accepted: connections accepted.
        refused: refused for lack of room.
        gave_way: idle ones that were closed for a new one.
        timed_out: closed because the request did not arrive in time.
        too_large: closed because the headers were too large.
        pauses: pauses of accepting because descriptors ran out.
    """

    accepted: int = 0
    refused: int = 0
    gave_way: int = 0
    timed_out: int = 0
    too_large: int = 0
    pauses: int = 0


class _Peer:
    """The connections of one address."""

    __slots__ = ("count", "waiting")

    def __init__(self) -> None:
        self.count = 0
        self.waiting: dict[Connection, None] = {}


class Acceptor:
    """Accepts the connections of one server. Belongs to one asyncio loop once it is started.

    Args:
        listener: a socket that listens; closed with this.
        limits: of the server.

    Attributes:
        counts: since it was made.
    """

    def __init__(self, listener: socket.socket, limits: ConnectionLimits) -> None:
        self._socket = listener
        self.limits = limits
        self.counts = ConnectionCounts()
        self._most = limits.connections
        self._make: Callable[[str], Connection] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open: dict[Connection, None] = {}
        # idle connections, the one that is idle longest first
        self._waiting: dict[Connection, None] = {}
        self._peers: dict[str, _Peer] = {}
        self._making: set[asyncio.Task[None]] = set()
        self._pause_s = _FIRST_PAUSE_S
        self._noticed_at = -_NOTICE_S
        self._unsaid: dict[str, int] = {}
        self._timers: list[asyncio.TimerHandle] = []

    @property
    def open(self) -> int:
        """Number of open connections."""
        return len(self._open)

    @property
    def waiting(self) -> int:
        """Number of connections without a request in progress."""
        return len(self._waiting)

    def start(self, make: Callable[[str], Connection]) -> None:
        """Start accepting, on the running loop.

        Args:
            make: a connection, given its address; calls `waits` and `works` as its requests come
                and go, and `closed`.
        """
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._most = min(self.limits.connections, free_descriptors())
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket.fileno(), self._accept)
        self._sweep()

    def close(self) -> None:
        """Accept no more; open connections stay. Idempotent."""
        loop, self._loop = self._loop, None
        if loop is not None and self._socket.fileno() >= 0:
            loop.remove_reader(self._socket.fileno())
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._socket.close()

    def waits(self, connection: Connection) -> None:
        """Note that the connection is idle, so it may be closed for a new one."""
        if connection in self._open and connection not in self._waiting:
            self._waiting[connection] = None
            self._peers[connection.address].waiting[connection] = None

    def works(self, connection: Connection) -> None:
        """Note that the connection has a request, so it must not be closed. The values of `_open`
        and `_waiting` are None; `self` stands for "was not there".
        """
        if self._waiting.pop(connection, self) is None:
            del self._peers[connection.address].waiting[connection]

    def closed(self, connection: Connection) -> None:
        """Forget a closed connection. Idempotent."""
        if self._open.pop(connection, self) is None:
            self.works(connection)
            self._forget(connection.address)

    def _opened(self, connection: Connection) -> None:
        self._open[connection] = None
        self._peers.setdefault(connection.address, _Peer()).count += 1
        self.waits(connection)

    def _forget(self, address: str) -> None:
        peer = self._peers[address]
        peer.count -= 1
        if not peer.count:
            del self._peers[address]

    def _accept(self) -> None:
        make = self._make
        assert make is not None
        for _ in range(_BATCH):
            try:
                accepted, place = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error)
                return
            address = str(place[0]) if place else ""
            if not self._has_room(address):
                self.counts.refused += 1
                self._notice("refused")
                with contextlib.suppress(OSError):
                    accepted.setblocking(False)
                    accepted.send(_FULL)
                accepted.close()
                continue
            self._pause_s = _FIRST_PAUSE_S
            self.counts.accepted += 1
            accepted.setblocking(False)
            connection = make(address)
            self._opened(connection)
            task = asyncio.create_task(self._begin(accepted, connection))
            self._making.add(task)
            task.add_done_callback(self._making.discard)

    async def _begin(self, accepted: socket.socket, connection: Connection) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, accepted)
        except OSError:  # gone already
            self.closed(connection)
            accepted.close()

    def _has_room(self, address: str) -> bool:
        peer = self._peers.get(address)
        if peer is not None and 0 < self.limits.per_address <= peer.count:
            return self._give_way(peer.waiting)
        return len(self._open) < self._most or self._give_way(self._waiting)

    def _give_way(self, waiting: dict[Connection, None]) -> bool:
        oldest = next(iter(waiting), None)
        if oldest is None:
            return False
        self.closed(oldest)
        self.counts.gave_way += 1
        self._notice("closed before the first request, or between two requests")
        oldest.give_way()
        return True

    def _pause(self, error: OSError) -> None:
        loop = self._loop
        if loop is None:
            return
        self.counts.pauses += 1
        for _ in range(FEWEST):
            if not self._give_way(self._waiting):
                break
        self._notice(f"not accepted for a while ({error.strerror})")
        loop.remove_reader(self._socket.fileno())
        self._timers.append(loop.call_later(self._pause_s, self._go_on))
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def _go_on(self) -> None:
        if self._loop is not None:
            self._loop.add_reader(self._socket.fileno(), self._accept)

    def _sweep(self) -> None:
        loop = self._loop
        if loop is None:
            return
        now = time.monotonic()
        for connection in list(self._open):
            connection.sweep(now)
        self._say(now)
        self._timers = [each for each in self._timers if not each.cancelled() and each.when() > loop.time()]
        self._timers.append(loop.call_later(SWEEP_S, self._sweep))

    def _notice(self, what: str) -> None:
        self._unsaid[what] = self._unsaid.get(what, 0) + 1
        self._say(time.monotonic())

    def _say(self, now: float) -> None:
        if self._unsaid and now - self._noticed_at >= _NOTICE_S:
            self._noticed_at = now
            said = "; ".join(f"{count} {what}" for what, count in self._unsaid.items())
            self._unsaid.clear()
            where = self._socket.getsockname()[:2]
            _log.warning(
                "too many connections to %s: %s (open: %d, limit: %d in all, %d from one address)",
                ":".join(map(str, where)), said, len(self._open), self._most, self.limits.per_address,
            )  # fmt: skip


def free_descriptors() -> int:
    """Number of connections for which this process has file descriptors, leaving some for the
    rest.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        used = sum(1 for _ in Path("/proc/self/fd").iterdir())
    except OSError:  # not Linux
        used = 64
    return max(FEWEST, most - used - RESERVED) if most != resource.RLIM_INFINITY else CONNECTIONS


def raise_descriptor_limit() -> None:
    """Use all descriptors that this process may have: the limit that it is started with is for
    programs that use `select`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else max(soft, 2 * CONNECTIONS)
    if wanted > soft:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
