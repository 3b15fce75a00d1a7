"""Server-sent events: the state of a workflow, or of all that a filter lets through, as it changes.

Nothing is missed, whoever comes again with `Last-Event-ID`, to whichever process: a state is a row of a table, so what counts is what has changed since, as it is
now. The hub remembers that; beyond what it remembers, the reader's list does, sorted by the moment of the change. Engines stamp changes by their own clocks and
commit them later, so there it is looked a minute further back, and what was told already may come once more.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace
from starlette.responses import Response, StreamingResponse

from perdure.api.hub import EventId, Hub, Watch, lasting_of
from perdure.api.parameters import only, refused, segment
from perdure.api.problems import problem
from perdure.api.reading import FILTER_PARAMETERS
from perdure.api.roles import Role
from perdure.api.routing import Asked, Routes
from perdure.client.listing import PAGE_LIMIT

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from perdure.api.hubs import Hubs
    from perdure.client.listing import ListQuery
    from perdure.model.states import WorkflowState

WATCHERS: Final = 5_000
"""Of one process; whoever comes then may try another."""
RETRY_MS: Final = 1_000
OVERLAP_US: Final = 60_000_000
"""Longer than a transaction may be open, and clocks may differ."""
LAG_S: Final = 10.0
ADMITTED_S: Final = 30.0
"""Whoever watches is asked again for what lets them in."""
routes = Routes()

_RESPONSES: Final = {
    "200": {
        "description": "Until the reader goes. `state`; `left`: the filter lets it through no longer; `deleted`; `cut`: read too slowly; `bye`: the server stops.",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": 'id: 1801396800000000-5f0c2b9a-1042\nevent: state\ndata: {"id":"order-1","status":"running"}\n\n',
            }
        },
    }
}
_LAST: Final = {
    "name": "Last-Event-ID",
    "in": "header",
    "schema": {"type": "string"},
    "description": "The id of the last event that came: what has changed since is told first.",
}


@routes.add("GET", "/workflows/{id}/events", Role.VIEWER, "Watch a workflow", parameters=[_LAST], responses=_RESPONSES)
async def watch_workflow(asked: Asked) -> Response:
    """Its state now, and after each change."""
    only(asked.request.query_params)
    workflow_id, last, hub = segment(asked.request.path_params["id"]), _last(asked), await _hub(asked)
    watch = Watch(workflow_id)
    hub.add(watch)  # first, so that nothing is missed while what is there is read
    try:
        told = await _current(asked, hub, watch, last)
    except BaseException:
        hub.remove(watch)
        raise
    return _Stream(asked, hub, watch, _all([told]))


@routes.add(
    "GET", "/workflows/events", Role.VIEWER, "Watch workflows", parameters=[*FILTER_PARAMETERS, _LAST], responses=_RESPONSES
)
async def watch_workflows(asked: Asked) -> Response:
    """Each that the filter lets through, after each change; from now on, or from `Last-Event-ID`."""
    query = asked.query(is_paged=False)
    last, hub = _last(asked), await _hub(asked)
    watch = Watch("", query)
    hub.add(watch)
    try:
        told = await _missed(asked, hub, watch, query, last)
    except BaseException:
        hub.remove(watch)
        raise
    return _Stream(asked, hub, watch, told)


class _Stream(StreamingResponse):
    """To one reader, until they go; the hub forgets them then, however that comes about."""

    def __init__(self, asked: Asked, hub: Hub, watch: Watch, first: AsyncIterator[bytes]) -> None:
        self._asked = asked
        self._hub = hub
        self._watch = watch
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(self._told(first), headers=headers, media_type="text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._hub.remove(self._watch)

    async def _told(self, first: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        yield b"retry: %d\n\n" % RETRY_MS
        async for told in first:
            yield told
        watch = self._watch
        admitted_at, is_over = time.monotonic(), False
        while not is_over:
            told = await watch.next()
            if time.monotonic() - admitted_at > ADMITTED_S:
                if not await self._asked.is_still_admitted():
                    return
                admitted_at = time.monotonic()
            is_over = watch.is_cut or watch.has_ended
            yield told or self._hub.mark(self._hub.number)


async def _hub(asked: Asked) -> Hub:
    hubs: Hubs = asked.request.app.state.hubs
    hub = hubs.whole if asked.has_payloads else hubs.outlines
    if len(hubs) >= WATCHERS:
        raise problem("unavailable", f"{WATCHERS} watch here already; another process may have room")
    await asked.backend.feed.begun()
    return hub


def _last(asked: Asked) -> EventId | None:
    text = asked.request.headers.get("last-event-id", "")
    if not text:
        return None
    found = EventId.parse(text)
    if found is None:
        raise refused(f"Last-Event-ID {text[:60]!r} is none that a stream of ours has given")
    return found


async def _current(asked: Asked, hub: Hub, watch: Watch, last: EventId | None) -> bytes:
    """What the workflow is now; empty: the reader knows."""
    workflow_id, number = watch.workflow_id, hub.number
    changed = hub.since(last) if last is not None else None
    if changed is not None:
        return b"".join(hub.event(*each) for each in changed if each[1] == workflow_id)
    found = hub.current(workflow_id) if asked.backend.reader is not None else None
    if found is None:
        await asked.backend.has_all(LAG_S, workflow_id)
        found = await asked.backend.read(lambda reader: reader.state(workflow_id))
    if found is None:
        raise problem("workflow-not-found", f"no workflow has the id {workflow_id!r}")
    found = asked.shown(found)
    watch.knows(found)
    if last is not None and found.updated_at < last.moment:
        return hub.mark(number)
    return hub.event(number, workflow_id, found)


async def _missed(asked: Asked, hub: Hub, watch: Watch, query: ListQuery, last: EventId | None) -> AsyncIterator[bytes]:
    """What has changed since, and where the reader is then."""
    number = hub.number
    if last is None:  # a list that was read just now, of tables that are behind, may not have what was told just before
        return _found(hub, query, hub.lately() if asked.backend.reader is not None else [], number)
    changed = hub.since(last)
    if changed is None:
        await asked.backend.has_all(LAG_S)
        return _read(asked, hub, watch, query, last)
    return _found(hub, query, changed, number)


def _found(
    hub: Hub, query: ListQuery, changed: Sequence[tuple[int, str, WorkflowState | None]], number: int
) -> AsyncIterator[bytes]:
    lasting = lasting_of(query)
    told = [hub.event(*each, query) for each in changed if each[2] is None or lasting.matches(each[2])]
    return _all([*told, hub.mark(number)])


async def _read(asked: Asked, hub: Hub, watch: Watch, query: ListQuery, last: EventId) -> AsyncIterator[bytes]:
    """Page by page. Until the last one was told, ids are moments only: who is cut off in between begins there."""
    number = hub.number
    wanted = replace(
        lasting_of(query), updated_after=max(0, last.moment - OVERLAP_US), sort="updated_at", order="oldest", limit=PAGE_LIMIT
    )
    while True:
        page = await asked.backend.read(lambda reader, wanted=wanted: reader.list(wanted))  # type: ignore[misc]
        for state in page:
            watch.knows(state)
            yield hub.event(0, state.workflow_id, asked.shown(state), query)
        if len(page) < PAGE_LIMIT:
            break
        wanted = replace(wanted, after=wanted.key_of(page[-1]))
    yield hub.mark(number)


async def _all(parts: Sequence[bytes]) -> AsyncIterator[bytes]:
    for each in parts:
        if each:
            yield each
