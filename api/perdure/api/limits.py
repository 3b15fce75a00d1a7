"""Middleware: rejects oversized and ambiguous requests before reading them, and keeps
percent-encoded slashes in ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from perdure.api.measures import now
from perdure.api.problems import problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from perdure.api.measures import Measures

BODY_BYTES: Final = 1_500_000
"""The largest body: a payload of 1 MiB as base64, and the JSON around it."""
PATH_BYTES: Final = 4_096
QUERY_BYTES: Final = 8_192
LIMIT: Final = "limit-exceeded"
_SINGLE: Final = frozenset(
    {
        b"authorization",
        b"content-type",
        b"host",
        b"idempotency-key",
        b"last-event-id",
        b"origin",
        b"sec-fetch-site",
    }
)
"""Headers that decide about a request: of two, a gateway may have checked the other one."""


class TooLarge(Exception):
    """The body exceeds the limit."""


class Limits:
    """ASGI middleware that enforces the limits.

    Routes match the path as it was sent, with its percent-encoding, so that an id with a slash
    stays one segment, and `%2e%2e` does not lead to the parent.

    Args:
        app: the application.
        measures: counts the responses.
    """

    def __init__(self, app: ASGIApp, measures: Measures) -> None:
        self._app = app
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_at, measures = now(), self._measures
        raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        fault = _fault(scope, raw_path)
        if fault:
            refusal = problem(*fault)
            measures.answered(scope, refusal.status, began_at, now())
            await refusal.response()(scope, receive, send)
            return
        scope = {**scope, "path": raw_path.partition(b"?")[0].decode("latin-1")}
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > BODY_BYTES:
                raise TooLarge(_too_large())
            return message

        is_begun = is_complete = False

        async def sent(message: Message) -> None:
            nonlocal is_begun, is_complete
            if message["type"] == "http.response.start":
                is_begun = True
                measures.answered(scope, message["status"], began_at, now())
            await send(message)
            is_complete = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await self._app(scope, counted, sent)
        except Exception:
            if not is_complete:  # it was answered and logged before: Starlette raises it nevertheless
                raise
        finally:
            if not is_begun:
                measures.answered(scope, 0, began_at, now())


def _fault(scope: Scope, raw_path: bytes) -> tuple[str, str] | None:
    """Why a request is rejected: the slug of the problem, and a text."""
    if len(raw_path) > PATH_BYTES:
        return LIMIT, f"the path is {len(raw_path)} bytes long, the limit is {PATH_BYTES}"
    if (length := len(scope["query_string"])) > QUERY_BYTES:
        return LIMIT, f"the query string is {length} bytes long, the limit is {QUERY_BYTES}"
    seen: set[bytes] = set()
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value[:20]) > BODY_BYTES:
            return LIMIT, _too_large()
        if name in _SINGLE:
            if name in seen:
                return "bad-request", f"the header {name.decode()} is there twice"
            seen.add(name)
    return None


def _too_large() -> str:
    return f"the body is larger than {BODY_BYTES} bytes. Store large data elsewhere and pass its address."
