"""Streams of runs: values, page by page or as server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.responses import Response, StreamingResponse

from perdure.adapters.http.contract import RECORD
from perdure.api.admitted import AdmittedRequest
from perdure.api.asking import wants_record
from perdure.api.json_views import payload
from perdure.api.parameters import only, refused, segment, whole
from perdure.api.problems import problem
from perdure.api.reading import query_parameter
from perdure.api.roles import Role
from perdure.api.routing import Routes, json
from perdure.api.sending import STUCK_S, abort
from perdure.client.streams import FIRST_LOOK_S, LONGEST_LOOK_S, PAGE, Numbers, page_of

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from perdure.model.states import WorkflowState
    from perdure.model.streams import StreamPage, StreamRecord

READERS: Final = 1_000
"""Streams that one process sends; further clients may reach another one."""
HEARTBEAT_S: Final = 15.0
ADMITTED_S: Final = 30.0
LARGEST_OFFSET: Final = 2**62
routes = Routes()
_encode: Final = msgspec.json.Encoder().encode


class _Open:
    """How many are sent by this process."""

    count = 0


@routes.add(
    "GET", "/workflows/{id}/streams/{name}", Role.READER, "Read a stream of a run",
    parameters=[
        query_parameter("after", "Offset: values after it; all by default. Last-Event-ID says the same."),
        query_parameter("limit", "Page size, 1 to 1000 values."),
    ],
    description="With `Accept: text/event-stream`: the values that are there, then those that come, until "
    "the run has closed (`event: end`). Else a page.",
    responses={"200": {
        "description": "Values",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"}, "example": 'id: 17\ndata: {"text":"Hello"}\n\n',
            },
            "application/json": {"example": {
                "values": [{"offset": 17, "value": {"text": "Hello"}, "run_id": "01jf", "number": 1,
                    "attempt": None}],
                "next": 17,
            }},
        },
    }},
)  # fmt: skip
async def read_stream(asked: AdmittedRequest) -> Response:
    """Values that the run writes, which its history does not have."""
    query = asked.request.query_params
    only(query, "after", "limit")
    workflow_id = segment(asked.request.path_params["id"])
    name = segment(asked.request.path_params["name"], "name of a stream")
    after = _after(asked)
    limit = whole(query, "limit", PAGE, 1, PAGE)
    found = await asked.backend.state(workflow_id)
    page = await page_of(asked.backend.transport, workflow_id, name, after, limit)
    if found is None and not page.values:
        raise problem("workflow-not-found", f"no workflow has the id {workflow_id!r}")
    if "text/event-stream" in asked.request.headers.get("accept", ""):
        if _Open.count >= READERS:
            raise problem(
                "unavailable", f"this process already has {READERS} streams; retry to reach another process"
            )
        return _Events(asked, workflow_id, name, page)
    if wants_record(asked):
        return Response(msgspec.msgpack.encode(page), media_type=RECORD)
    values = [_shown(offset, each) for offset, each in page.values]
    return json({"values": values, "next": page.next})


def _after(asked: AdmittedRequest) -> int:
    last = asked.request.headers.get("last-event-id", "")
    if not last:
        return whole(asked.request.query_params, "after", 0, 0, LARGEST_OFFSET)
    if not (last.isascii() and last.isdecimal() and len(last) <= 19) or int(last) > LARGEST_OFFSET:
        raise refused(f"Last-Event-ID {last[:60]!r} is no offset of a stream")
    return int(last)


def _shown(offset: int, record: StreamRecord) -> dict[str, Any]:
    return {
        "offset": offset,
        "value": payload(record.value),
        "run_id": record.run_id,
        "number": record.number,
        "attempt": record.attempt or None,
    }


class _Events(StreamingResponse):
    """Server-sent events to one reader, until the run has closed or they go."""

    def __init__(self, asked: AdmittedRequest, workflow_id: str, name: str, first: StreamPage) -> None:
        self._asked = asked
        self._workflow_id = workflow_id
        self._name = name
        self._numbers = Numbers()
        self._writer = ("", 0, 0)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(self._told(first), headers=headers, media_type="text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            async with asyncio.timeout(STUCK_S):
                await send(message)

        _Open.count += 1
        try:
            await super().__call__(scope, receive, sent)
        except TimeoutError:
            abort(scope)
            await asyncio.sleep(0)  # for the server to notice
        finally:
            _Open.count -= 1

    async def _told(self, page: StreamPage) -> AsyncIterator[bytes]:
        yield b"retry: 1000\n\n"
        closing: asyncio.Event = self._asked.request.app.state.hubs.whole.closing
        admitted_at = told_at = time.monotonic()
        look_s, is_closed = FIRST_LOOK_S, False
        while not closing.is_set():
            now = time.monotonic()
            if page.values:
                yield self._encoded(page)
                told_at, look_s, is_closed = now, FIRST_LOOK_S, False
            elif is_closed:
                yield b"event: end\ndata: {}\n\n"
                return
            else:
                state = await self._state()
                is_closed = state is None or state.status.is_closed  # then once more: it may have written
                if not is_closed:
                    await asyncio.sleep(look_s)
                    look_s = min(2 * look_s, LONGEST_LOOK_S)
                if now - told_at > HEARTBEAT_S:
                    told_at = now
                    yield b": still here\n\n"
            if now - admitted_at > ADMITTED_S:
                if not await self._asked.is_still_admitted():
                    return
                admitted_at = now
            page = await page_of(
                self._asked.backend.transport, self._workflow_id, self._name, page.next, PAGE
            )
        yield b"event: bye\ndata: {}\n\n"

    async def _state(self) -> WorkflowState | None:
        return await self._asked.backend.state(self._workflow_id)

    def _encoded(self, page: StreamPage) -> bytes:
        parts: list[bytes] = []
        for offset, record in page.values:
            if not self._numbers.is_new(record):
                continue
            data = record.value
            if not data or data[0] == 0 or b"\n" in data or b"\r" in data:
                data = _encode(payload(data))
            writer = record.run_id, record.activity, record.attempt
            if record.attempt > 1 and writer != self._writer:
                parts.append(b'event: attempt\ndata: {"attempt":%d}\n\n' % record.attempt)
            self._writer = writer
            parts.append(b"id: %d\ndata: %b\n\n" % (offset, data))
        return b"".join(parts)
