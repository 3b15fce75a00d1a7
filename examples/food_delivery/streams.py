"""Server-sent events: several sources, one response."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
from starlette.responses import StreamingResponse

Event = tuple[str, Any]  # its name, and what the page gets as JSON

PAUSE_S: Final = 15.0


def stream(*sources: AsyncIterator[Event]) -> StreamingResponse:
    """What all of the sources say, as it comes, until the reader goes away. A comment every 15 s keeps the connection open."""
    return StreamingResponse(_merged(sources), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _merged(sources: tuple[AsyncIterator[Event], ...]) -> AsyncIterator[bytes]:
    said: asyncio.Queue[Event] = asyncio.Queue()

    async def listen(source: AsyncIterator[Event]) -> None:
        async for event in source:
            said.put_nowait(event)

    listeners = [asyncio.create_task(listen(source)) for source in sources]
    yield b": welcome\n\n"
    try:
        while True:
            try:
                name, value = await asyncio.wait_for(said.get(), PAUSE_S)
            except TimeoutError:
                yield b": still here\n\n"
            else:
                yield b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(value))
    finally:
        for listener in listeners:
            listener.cancel()
