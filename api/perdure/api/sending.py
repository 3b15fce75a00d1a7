"""Large responses: sent in slices, within a budget per process, so that slow readers cost little
and block no one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from starlette.types import Receive, Scope, Send

SLICE: Final = 32 * 1024
"""Bytes handed to the server at a time. For each slow reader, the server holds this much and its
own 64 KiB of unsent data."""
STUCK_S: Final = 30.0
"""A reader that accepts no slice for this long is cut off, seconds."""
BUDGET_BYTES: Final = 64 * 1024 * 1024
"""The most bytes of all responses that are being sent; beyond it, the one that has been stuck
longest is aborted."""
ABORT: Final = "perdure.abort"
"""The extension of an ASGI scope that ends its connection immediately, unsent data included: see
`server.py`.
"""


class Budget:
    """Counts the bytes of responses that are being sent. Belongs to the server's loop.

    Args:
        limit: the most bytes.
    """

    def __init__(self, limit: int = BUDGET_BYTES) -> None:
        self.limit = limit
        self.size = 0
        self._held: dict[Large, int] = {}  # the one that has been stuck longest first

    def hold(self, answer: Large, size: int) -> None:
        """Add a response; others are aborted if there is no room."""
        self._held[answer] = size
        self.size += size
        while self.size > self.limit and len(self._held) > 1:
            oldest = next(iter(self._held))
            self.free(oldest)
            oldest.cut()

    def moved(self, answer: Large) -> None:
        """Note that the reader has accepted a part."""
        if (size := self._held.pop(answer, None)) is not None:
            self._held[answer] = size

    def free(self, answer: Large) -> None:
        """Remove a response."""
        self.size -= self._held.pop(answer, 0)


class Large(Response):
    """A response of more than one slice. A reader that is too slow is disconnected, and may
    retry.
    """

    _scope: Scope | None = None
    _is_cut = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response slice by slice."""
        budget: Budget = scope["app"].state.answers
        self._scope = scope
        size = len(self.body)
        budget.hold(self, size)
        try:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            for begin in range(0, size, SLICE):
                if self._is_cut:
                    break
                piece, more = bytes(self.body[begin : begin + SLICE]), begin + SLICE < size
                async with asyncio.timeout(STUCK_S):
                    await send({"type": "http.response.body", "body": piece, "more_body": more})
                budget.moved(self)
        except TimeoutError:
            abort(scope)
        finally:
            budget.free(self)
            await asyncio.sleep(0)  # for the server to notice that it was cut off

    def cut(self) -> None:
        """Abort the response at any point."""
        self._is_cut = True
        self.body = b""
        if self._scope is not None:
            abort(self._scope)


def abort(scope: MutableMapping[str, Any]) -> None:
    """End the connection of a request immediately, if the server supports it."""
    end = scope.get("extensions", {}).get(ABORT)
    if end is not None:
        end()


def answer(body: bytes, status: int, headers: dict[str, str] | None, media_type: str) -> Response:
    """A response of any size."""
    return (Large if len(body) > SLICE else Response)(body, status, headers, media_type=media_type)
