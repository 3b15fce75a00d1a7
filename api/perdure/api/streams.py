"""Server-sent events: the state of a workflow, or of all that a filter lets through, as it changes.

The id of an event is the moment of the change, microseconds since 1970. Who comes again with it as `Last-Event-ID` is told what has changed since,
as it is now: a state is a row of a table, what lies between two states is in the history. What may have been told already comes once more.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response, StreamingResponse

from perdure.api.feeds import OVERLAP_US, Change
from perdure.api.parameters import list_query, only, refused, segment
from perdure.api.problems import problem
from perdure.api.reading import FILTER_PARAMETERS
from perdure.api.roles import Role
from perdure.api.routing import ENCODER, Asked, Routes
from perdure.api.shapes import state as shape
from perdure.client.listing import PAGE_LIMIT, ListQuery

if TYPE_CHECKING:
    from perdure.api.feeds import Feed
    from perdure.model.states import WorkflowState

QUEUE: Final = 1_000
"""Changes that may wait for a reader; a slower one is cut, and comes again where it was."""
HEARTBEAT_S: Final = 15.0
RETRY_MS: Final = 1_000
_ID: Final = re.compile(r"\d{1,19}")
routes = Routes()
_BYE: Final = object()


class Hub:
    """Hands every change to those who watch for it, encoded once. Belongs to the server's loop."""

    def __init__(self) -> None:
        self._by_id: dict[str, set[Watch]] = {}
        self._lists: set[Watch] = set()
        self._is_closing = False

    def start(self, feed: Feed) -> None:
        """Be told."""
        feed.start(self.publish)

    def publish(self, changes: Sequence[Change]) -> None:
        """Tell."""
        for workflow_id, state in changes:
            watching = self._by_id.get(workflow_id, ())
            if not watching and not self._lists:
                continue
            told: bytes | None = None
            for watch in [*watching, *self._lists]:
                if watch.wants(workflow_id, state):
                    told = told or _event(workflow_id, state)
                    watch.put(told)

    def add(self, watch: Watch) -> None:
        """Somebody watches."""
        if self._is_closing:
            watch.put(_BYE)
        if watch.workflow_id:
            self._by_id.setdefault(watch.workflow_id, set()).add(watch)
        else:
            self._lists.add(watch)

    def remove(self, watch: Watch) -> None:
        """No longer."""
        self._lists.discard(watch)
        watching = self._by_id.get(watch.workflow_id)
        if watching is not None:
            watching.discard(watch)
            if not watching:
                del self._by_id[watch.workflow_id]

    def say_goodbye(self) -> None:
        """The server stops: they come again, elsewhere."""
        self._is_closing = True
        for watch in [*self._lists, *(each for watching in self._by_id.values() for each in watching)]:
            watch.put(_BYE)

    def __len__(self) -> int:
        """How many watch."""
        return len(self._lists) + sum(map(len, self._by_id.values()))


class Watch:
    """What one reader is to be told.

    Args:
        workflow_id: of this workflow; empty: of all that `query` lets through.
        query: its filters count.
    """

    def __init__(self, workflow_id: str = "", query: ListQuery | None = None) -> None:
        self.workflow_id = workflow_id
        self._query = query
        self._shown: dict[str, int] = {}
        self._waiting: asyncio.Queue[Any] = asyncio.Queue(QUEUE)
        self._is_cut = False

    def wants(self, workflow_id: str, state: WorkflowState | None) -> bool:
        """Whether this is news; a workflow that has left the filter is told of once more."""
        if state is None:
            return self._shown.pop(workflow_id, None) is not None or bool(self.workflow_id)
        if self._query is not None and not self._query.matches(state):
            return self._shown.pop(workflow_id, None) is not None
        if self._shown.get(workflow_id, -1) >= state.updated_at:
            return False
        self._shown[workflow_id] = state.updated_at
        return True

    def put(self, told: Any) -> None:
        """Have it sent."""
        if self._is_cut:
            return
        try:
            self._waiting.put_nowait(told)
        except asyncio.QueueFull:
            self._is_cut = True

    async def next(self) -> bytes | None:
        """What is to be sent now: everything that waits, or a heartbeat; None: the end."""
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                told = await self._waiting.get()
        except TimeoutError:
            return b": still here\n\n"
        parts: list[bytes] = []
        while told is not _BYE:
            parts.append(told)
            if self._waiting.empty():
                if self._is_cut:
                    parts.append(b'event: cut\ndata: {"reason":"you read too slowly; come again with the last id"}\n\n')
                return b"".join(parts)
            told = self._waiting.get_nowait()
        return b"".join(parts) or None

    @property
    def is_cut(self) -> bool:
        """Whether it read too slowly."""
        return self._is_cut


def _event(workflow_id: str, state: WorkflowState | None) -> bytes:
    if state is None:
        return b"event: deleted\ndata: %b\n\n" % ENCODER.encode({"id": workflow_id})
    return b"id: %d\nevent: state\ndata: %b\n\n" % (state.updated_at, ENCODER.encode(shape(state)))


_RESPONSES: Final = {
    "200": {
        "description": "Until the reader goes; `state`, `deleted`, and `bye` when the server stops",
        "content": {"text/event-stream": {"example": 'id: 1801396800000000\nevent: state\ndata: {"id": "order-1", …}\n\n'}},
    }
}
_LAST: Final = {
    "name": "Last-Event-ID",
    "in": "header",
    "schema": {"type": "string"},
    "description": "The id of the last event that came: what has changed since is told first.",
}


@routes.add("GET", "/workflows/{id}/events", Role.READER, "Watch a workflow", parameters=[_LAST], responses=_RESPONSES)
async def watch_workflow(asked: Asked) -> Response:
    """Its state now, and after each change."""
    only(asked.request.query_params)
    workflow_id, last = segment(asked.request.path_params["id"]), _last(asked)
    found = await asked.backend.read(lambda reader: reader.state(workflow_id))
    if found is None:
        raise problem("workflow-not-found", f"no workflow has the id {workflow_id!r}")
    return _stream(asked, Watch(workflow_id), last)


@routes.add(
    "GET", "/workflows/events", Role.READER, "Watch workflows", parameters=[*FILTER_PARAMETERS, _LAST], responses=_RESPONSES
)
async def watch_workflows(asked: Asked) -> Response:
    """Each that the filter lets through, after each change; from now on, or from `Last-Event-ID`."""
    query = list_query(asked.request.query_params, is_paged=False)
    return _stream(asked, Watch("", query), _last(asked))


def _last(asked: Asked) -> int | None:
    text = asked.request.headers.get("last-event-id", "")
    if not text:
        return None
    if not _ID.fullmatch(text):
        raise refused(f"Last-Event-ID {text[:40]!r} is none that a stream of ours has given")
    return int(text)


def _stream(asked: Asked, watch: Watch, last: int | None) -> Response:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_told(asked, watch, last), headers=headers, media_type="text/event-stream")


async def _told(asked: Asked, watch: Watch, last: int | None) -> AsyncIterator[bytes]:
    hub: Hub = asked.request.app.state.hub
    hub.add(watch)  # first, so that nothing is missed while what is there is read
    try:
        yield b"retry: %d\n\n" % RETRY_MS
        async for state in _caught_up(asked, watch, last):
            if watch.wants(state.workflow_id, state):
                yield _event(state.workflow_id, state)
        while (told := await watch.next()) is not None:
            yield told
            if watch.is_cut:
                return
        yield b"event: bye\ndata: {}\n\n"
    finally:
        hub.remove(watch)


async def _caught_up(asked: Asked, watch: Watch, last: int | None) -> AsyncIterator[WorkflowState]:
    """What has changed since, page by page."""
    if watch.workflow_id:
        found = await asked.backend.read(lambda reader: reader.state(watch.workflow_id))
        if found is not None and (last is None or found.updated_at > last):
            yield found
        return
    if last is None:
        return
    after = None
    while True:
        query = ListQuery(
            updated_after=max(0, last - OVERLAP_US), sort="updated_at", order="oldest", limit=PAGE_LIMIT, after=after
        )
        page = await asked.backend.read(lambda reader, query=query: reader.list(query))  # type: ignore[misc]
        for each in page:
            yield each
        if len(page) < PAGE_LIMIT:
            return
        after = query.key_of(page[-1])
