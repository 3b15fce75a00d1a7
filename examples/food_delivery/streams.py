"""Server-sent events: several sources, one response."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
from starlette.responses import StreamingResponse

from perdure.errors import ClientError, InfrastructureError

Event = tuple[str, Any]  # its name, and what the page gets as JSON
Told = Event | None  # None: a source has failed

PAUSE_S: Final = 15.0


def stream(*sources: AsyncIterator[Event]) -> StreamingResponse:
    """What all of the sources say, as it comes, until the reader goes away. When a source fails the
    response ends, and the page asks again.

    A comment every 15 s keeps the connection open.
    """
    return StreamingResponse(
        _merged(sources), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _merged(sources: tuple[AsyncIterator[Event], ...]) -> AsyncIterator[bytes]:
    told: asyncio.Queue[Told] = asyncio.Queue()

    async def listen(source: AsyncIterator[Event]) -> None:
        try:
            async for event in source:
                told.put_nowait(event)
        except (ClientError, InfrastructureError):
            told.put_nowait(None)

    listeners = [asyncio.create_task(listen(source)) for source in sources]
    yield b": welcome\n\n"
    try:
        while True:
            try:
                event = await asyncio.wait_for(told.get(), PAUSE_S)
            except TimeoutError:
                yield b": still here\n\n"
                continue
            if event is None:
                return
            name, value = event
            yield b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(value))
    finally:
        for listener in listeners:
            listener.cancel()
