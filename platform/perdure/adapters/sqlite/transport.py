"""Requests from another process than the engine's, through the SQLite file of one machine."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar, cast

from msgspec.structs import replace

from perdure.adapters.process.waiting import Waiting
from perdure.adapters.sqlite.client_exchange import FileExchange
from perdure.adapters.sqlite.file import BUSY_S, path_of, require_exists
from perdure.adapters.sqlite.ownership import is_owned, owner_of
from perdure.adapters.sqlite.reader import SqliteReader
from perdure.client.position import EVERYTHING, Position
from perdure.errors import EngineUnavailable
from perdure.model.commands import AwaitWorkflow, QueryWorkflow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perdure.client.ports import Reader
    from perdure.errors import InfrastructureError
    from perdure.model.commands import AnyCommand, Request
    from perdure.model.replies import AnyReply

T = TypeVar("T")

ABANDONED_S: Final = 10.0
"""Time after which a request without a limit gives up if no process runs the database, seconds:
time for a restart.
"""


def connect(url: str) -> SqliteTransport:
    """A transport to the process that runs the database at `sqlite:///app.db`; `client.address`
    names this function.

    Raises:
        InfrastructureError: there is no such file.
    """
    return SqliteTransport(path_of(url))


class SqliteTransport:
    """`client.ports.Transport` through the SQLite file.

    Requests that are sent while no engine runs on the database are kept, and done when one starts.

    Args:
        path: the file.
        abandoned_s: see `ABANDONED_S`.
        busy_s: how long to wait for another process's transaction at a time, seconds.

    Raises:
        InfrastructureError: there is no such file.
    """

    def __init__(self, path: str | Path, abandoned_s: float = ABANDONED_S, busy_s: float = BUSY_S) -> None:
        self._path = Path(path).absolute()
        require_exists(self._path)
        self._abandoned_s = abandoned_s
        self._busy_s = busy_s
        self._reader = SqliteReader(self._path)
        self._waiting = Waiting()
        self._exchange: FileExchange | None = None
        self._is_closed = False

    @property
    def reader(self) -> Reader:
        """Of the same file."""
        return self._reader

    @property
    def is_reader_near(self) -> bool:
        """It is one look-up."""
        return True

    async def read(self, question: Callable[[Reader], T]) -> T:
        """Off the loop: a list, or a history, may be large."""
        return await asyncio.to_thread(question, self._reader)

    async def position(self, workflow_id: str) -> Position:
        """Every read sees all that was answered before it."""
        return EVERYTHING

    async def request(self, command: Request, timeout_s: float) -> AnyReply:
        """Ask, and wait for the answer."""
        exchange = self._opened()
        command = replace(command, reply_to=exchange.address)
        future = self._waiting.add(command.request_id)
        exchange.open_requests += 1
        if isinstance(command, AwaitWorkflow):
            exchange.awaited[command.request_id] = command
        try:
            exchange.send((cast("AnyCommand", command),))
            if math.isinf(timeout_s):
                await self._while_owned(future)
            else:
                await asyncio.wait((future,), timeout=timeout_s)
            if not future.done():
                raise exchange.fault or self._unavailable(command, timeout_s)
            return future.result()
        finally:
            exchange.open_requests -= 1
            exchange.awaited.pop(command.request_id, None)
            self._waiting.remove(command.request_id, future)

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        """Submit commands without waiting for a reply."""
        self._opened().send(commands)

    async def close(self) -> None:
        """Write the waiting commands, then close."""
        if self._is_closed:
            return
        self._is_closed = True
        self._waiting.fail(EngineUnavailable("this client was closed while it waited for an answer"))
        if self._exchange is not None:
            await asyncio.to_thread(self._exchange.close)
        self._reader.close()

    def _opened(self) -> FileExchange:
        if self._is_closed:
            raise EngineUnavailable("this client is closed: connect again")
        if self._exchange is None:
            self._exchange = FileExchange(
                self._path, self._busy_s, self._waiting.resolve_from_thread, self._failed
            )
        if self._exchange.has_ended:
            raise self._exchange.fault or EngineUnavailable("this client's thread has ended: connect again")
        return self._exchange

    def _failed(self, error: InfrastructureError) -> None:
        self._waiting.fail_from_thread(error)

    async def _while_owned(self, future: asyncio.Future[AnyReply]) -> None:
        """Wait until it is done, or no process has run the database for too long."""
        step_s = self._abandoned_s / 5
        unowned_s = 0.0
        while unowned_s < self._abandoned_s:
            await asyncio.wait((future,), timeout=step_s)
            if future.done():
                return
            unowned_s = 0.0 if is_owned(self._path) else unowned_s + step_s

    def _unavailable(self, command: Request, timeout_s: float) -> EngineUnavailable:
        if not is_owned(self._path):
            only_asks = isinstance(command, AwaitWorkflow | QueryWorkflow)
            kept = (
                ""
                if only_asks
                else f"; {type(command).__name__} for {command.workflow_id!r} is stored and will be "
                "processed then"
            )
            return EngineUnavailable(
                f"no engine is running on the database {self._path}: start `perdure dev APP --db "
                f"{self._path}`{kept}"
            )
        return EngineUnavailable(
            f"the engine of {self._path} (process {owner_of(self._path)}) did not answer "
            f"{type(command).__name__} within "
            f"{timeout_s:g} s: it is busy or stopped; see its log. It is safe to retry."
        )
