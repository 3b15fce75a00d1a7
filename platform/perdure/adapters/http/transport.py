"""Requests from anywhere, through the HTTP API."""

from __future__ import annotations

import asyncio
import logging
import math
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_all
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from msgspec.structs import replace

from perdure.adapters.http.answers import fault_of
from perdure.adapters.http.connection import CLOSED, UNREACHABLE_S, Connection
from perdure.adapters.http.reader import HttpReader
from perdure.adapters.http.routes import call_of, get, path_of
from perdure.client.position import Position
from perdure.codec.records import decode_reply
from perdure.errors import EngineUnavailable, InfrastructureError, UsageError
from perdure.model.commands import AwaitWorkflow, StartWorkflow, UpdateWorkflow
from perdure.model.replies import Accepted, AskAgain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perdure.adapters.http.routes import Call
    from perdure.client.address import Token
    from perdure.client.ports import Reader
    from perdure.model.commands import AnyCommand, Request
    from perdure.model.replies import AnyReply

T = TypeVar("T")

_logger: Final = logging.getLogger(__name__)
_WHILE_WAITING: Final = "this client was closed while it waited for an answer"


def connect(url: str, token: Token | None = None) -> HttpTransport:
    """A transport to the API at `http://host:8000`; `client.address` names this function.

    Args:
        url: of the API, without `/api/v1`.
        token: an API key or a token, or what gives the one that holds now; PERDURE_TOKEN by
            default.

    Raises:
        UsageError: the address is not understood.
    """
    return HttpTransport(Connection(url, token))


class HttpTransport:
    """`client.ports.Transport` through the API.

    Args:
        connection: to it; closed with the transport.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._reader = HttpReader(connection)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asking: set[Future[AnyReply]] = set()
        self._submitted: Future[None] | None = None

    @property
    def reader(self) -> Reader:
        """Reads by requests to the API."""
        return self._reader

    @property
    def is_reader_near(self) -> bool:
        """False: the API is as far away as the engine."""
        return False

    async def read(self, question: Callable[[Reader], T]) -> T:
        """Call the reader in a thread."""
        if self._connection.is_closed:
            raise EngineUnavailable(CLOSED)
        return await asyncio.to_thread(question, self._reader)

    async def position(self, workflow_id: str) -> Position:
        """Ask the API for the position."""
        answer = await asyncio.wrap_future(
            self._connection.begin(self._connection.answer(get(f"{path_of(workflow_id)}/position")))
        )
        if not answer.is_ok:
            raise fault_of(answer, self._connection.url)
        return Position.parse(msgspec.json.decode(answer.body, type=_PositionAnswer).position)

    async def request(self, command: Request, timeout_s: float) -> AnyReply:
        """Send a request, and wait for the reply."""
        self._see_that_the_loop_is_one()
        future = self._connection.begin(self._reply(command, call_of(command)))
        self._asking.add(future)
        try:
            async with asyncio.timeout(None if math.isinf(timeout_s) else timeout_s):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise EngineUnavailable(
                f"the API at {self._connection.url} did not answer {type(command).__name__} within "
                f"{timeout_s:g} s: it, or the engine "
                "behind it, is busy or stopped; look at their logs. It is safe to retry."
            ) from None
        except asyncio.CancelledError:
            if self._connection.is_closed:
                raise EngineUnavailable(_WHILE_WAITING) from None
            raise
        finally:
            self._asking.discard(future)

    def submit(self, commands: Sequence[AnyCommand]) -> None:
        """Submit commands without waiting for a reply; in order, and before later requests."""
        calls = [call_of(command) for command in commands]
        self._submitted = self._connection.begin(self._send(calls, self._submitted))

    async def close(self) -> None:
        """Send the waiting commands, then close."""
        if self._submitted is not None:
            await asyncio.to_thread(wait_for_all, [self._submitted], UNREACHABLE_S)
        await asyncio.to_thread(self._connection.close)

    # ---- on the connection's loop

    async def _reply(self, command: Request, call: Call) -> AnyReply:
        await _ended(self._submitted)
        while True:
            answer = await self._connection.answer(call)
            if not answer.is_record:
                raise fault_of(answer, self._connection.url)
            reply = decode_reply(answer.body)
            if isinstance(reply, Accepted) and _is_update(command):
                return reply  # the id of the update is that of the API's own request
            if not (isinstance(reply, AskAgain) and isinstance(command, AwaitWorkflow)):
                return replace(reply, request_id=command.request_id)

    async def _send(self, calls: Sequence[Call], before: Future[None] | None) -> None:
        await _ended(before)
        for call in calls:
            try:
                answer = await self._connection.answer(call)
                fault = None if answer.is_ok or answer.is_record else fault_of(answer, self._connection.url)
            except InfrastructureError as error:
                fault = error
            if fault is not None:
                _logger.warning(
                    "a request submitted without waiting (%s %s) was lost: %s", call.method, call.path, fault
                )

    def _see_that_the_loop_is_one(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop and self._asking:
            raise UsageError("this client is in use on another asyncio loop: connect one for each loop")
        self._loop = loop


class _PositionAnswer(msgspec.Struct):
    position: str


def _is_update(command: Request) -> bool:
    return isinstance(command, UpdateWorkflow) or (
        isinstance(command, StartWorkflow) and bool(command.update_name)
    )


async def _ended(future: Future[Any] | None) -> None:
    """Wait until earlier submissions have ended; their errors are not raised here."""
    if future is not None and not future.done():
        await asyncio.wait([asyncio.wrap_future(future)])
