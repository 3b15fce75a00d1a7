"""Connections to the API: one pool, on a loop in a separate thread, so that any thread and any loop
may use it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx

from perdure.adapters.http.answers import Answer
from perdure.adapters.http.contract import NEXT, RECORD
from perdure.adapters.http.routes import Call
from perdure.errors import EngineUnavailable, InfrastructureError, UsageError
from perdure.model.tokens import hidden
from perdure.threads import WatchedThread

if TYPE_CHECKING:
    from perdure.client.address import Token

T = TypeVar("T")

TOKEN_VARIABLE: Final = "PERDURE_TOKEN"  # noqa: S105 - where it is, not what it is
UNREACHABLE_S: Final = 5.0
"""How long an unreachable API is retried, seconds: time for one process to take over the port from
another.
"""
CLOSED: Final = "this client is closed: connect again"


class _HidesTokens(logging.Filter):
    """httpx logs the address of each request at INFO, and that of an answer to a token has it."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                hidden(str(each)) if isinstance(each, httpx.URL) else each for each in record.args
            )
        return True


logging.getLogger("httpx").addFilter(_HidesTokens())
_CONNECTIONS: Final = httpx.Limits(max_connections=200, max_keepalive_connections=50)
_PAUSES_S: Final = (0.05, 0.1, 0.2, 0.5)


class Connection:
    """Sends requests to the API. Connects on the first one.

    Args:
        url: `http://host:8000`, `https://…`; a path is what the API's begin with.
        token: an API key or a token, or a function that returns the current one; PERDURE_TOKEN by
            default.
        unreachable_s: see `UNREACHABLE_S`.

    Raises:
        UsageError: the address is not understood.
    """

    def __init__(self, url: str, token: Token | None = None, unreachable_s: float = UNREACHABLE_S) -> None:
        self.url = checked_url(url)
        self._token = token
        self._unreachable_s = unreachable_s
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: WatchedThread | None = None
        self._http: httpx.AsyncClient | None = None
        self.is_closed = False

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the connection's loop, from any thread.

        Raises:
            EngineUnavailable: this is closed.
        """
        with self._lock:
            if self.is_closed:
                work.close()
                raise EngineUnavailable(CLOSED)
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = WatchedThread(target=self._loop.run_forever, name="perdure-http")
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def ask(self, call: Call) -> Answer:
        """As `answer`, but blocking, for threads."""
        return self.begin(self.answer(call)).result()

    async def answer(self, call: Call) -> Answer:
        """Send a request; retries while the API is unreachable or not ready. All requests are safe
        to repeat.

        Raises:
            InfrastructureError: no server listens at the address; the message says what to do.
        """
        until = asyncio.get_running_loop().time() + self._unreachable_s
        pauses = iter(_PAUSES_S)
        while True:
            try:
                answer = await self._once(call)
            except httpx.TransportError as error:
                pause_s = next(pauses, _PAUSES_S[-1])
                if asyncio.get_running_loop().time() + pause_s > until:
                    raise self._unreachable(error) from error
            else:
                pause_s = answer.retry_after_s
                is_ready = answer.status != HTTPStatus.SERVICE_UNAVAILABLE or pause_s < 0
                if is_ready or asyncio.get_running_loop().time() + pause_s > until:
                    return answer
            await asyncio.sleep(pause_s)

    def _unreachable(self, error: httpx.TransportError) -> InfrastructureError:
        return InfrastructureError(
            f"the API at {self.url} cannot be reached ({str(error) or type(error).__name__}): check that "
            "`perdure api` runs there, or "
            "`perdure dev`. It is safe to retry."
        )

    def close(self) -> None:
        """Close; running calls end with `EngineUnavailable`. Idempotent."""
        with self._lock:
            self.is_closed = True
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._end(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._http is not None:
            await self._http.aclose()

    async def _once(self, call: Call) -> Answer:
        if self._http is None:
            self._http = httpx.AsyncClient(timeout=httpx.Timeout(10.0, read=None), limits=_CONNECTIONS)
        response = await self._http.request(
            call.method,
            self.url + call.path,
            params=list(call.parameters),
            content=call.body,
            headers={"accept": RECORD, **self._credentials(), **call.headers},
        )
        content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        retry_after_s = _seconds(response.headers.get("retry-after", ""))
        return Answer(
            response.status_code,
            content_type,
            response.content,
            retry_after_s,
            response.headers.get(NEXT, ""),
        )

    def _credentials(self) -> dict[str, str]:
        given = self._token if self._token is not None else os.environ.get(TOKEN_VARIABLE, "")
        token = given() if callable(given) else given
        return {"authorization": f"Bearer {token}"} if token else {}


def checked_url(url: str) -> str:
    """The address of a server, without a slash at its end.

    Raises:
        UsageError: it is none, or holds a secret.
    """
    try:
        parts = urlsplit(url)
        is_good = (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and url.isprintable()
        )
    except ValueError:
        raise UsageError(
            f'invalid address {url!r}; write "http://localhost:8080" or "https://perdure.shop.example"'
        ) from None
    if not is_good or parts.query or parts.fragment:
        raise UsageError(
            f'invalid address {url!r}; write "http://localhost:8080" or "https://perdure.shop.example"'
        )
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            f"do not put secrets into an address: pass the token by {TOKEN_VARIABLE}, or connect(…, token=…)"
        )
    return url.rstrip("/")


def _seconds(retry_after: str) -> float:
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else -1.0
