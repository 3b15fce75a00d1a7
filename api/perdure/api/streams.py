"""Server-sent events: changes of one workflow, or of all workflows that match a filter.

A client that reconnects with `Last-Event-ID`, to any process, misses no change: it gets the current
state of every workflow that has changed since. The hub remembers recent changes; earlier ones are
read from the list of workflows, sorted by the time of the change. Engines stamp changes by their
own clocks and commit them later, so that list is read from a minute earlier, and the client may get
a state twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace
from starlette.responses import Response, StreamingResponse

from perdure.api.admitted import AdmittedRequest
from perdure.api.change_events import EncodedEvent, EventId
from perdure.api.hub import Hub, Watch, lasting_of
from perdure.api.parameters import only, refused, segment
from perdure.api.problems import problem
from perdure.api.reading import FILTER_PARAMETERS
from perdure.api.roles import Role
from perdure.api.routing import Routes
from perdure.api.sending import STUCK_S, abort
from perdure.client.listing import PAGE_LIMIT

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from perdure.api.hubs import Hubs
    from perdure.client.listing import ListQuery
    from perdure.model.states import WorkflowState

WATCHERS: Final = 5_000
"""The most streams of one process; further clients may reach another process."""
RETRY_MS: Final = 1_000
OVERLAP_US: Final = 60_000_000
"""How much earlier the list is read: more than a transaction may last and clocks may differ."""
PAGE_BYTES: Final = 256 * 1024
"""Bytes of states read at a time for a reconnecting reader; a page holds at least one state."""
LAG_S: Final = 10.0
ADMITTED_S: Final = 30.0
"""Seconds between two checks that a stream's caller is still admitted."""
routes = Routes()

_RESPONSES: Final = {
    "200": {
        "description": "Events until the client disconnects: `state`; `left` (no longer matches the filter); "
        "`deleted`; `cut` (client read too slowly); `bye` (server stops).",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": "id: 1801396800000000-5f0c2b9a-1042\nevent: state\ndata: "
                '{"id":"order-1","status":"running"}\n\n',
            }
        },
    }
}
_LAST: Final = {
    "name": "Last-Event-ID",
    "in": "header",
    "schema": {"type": "string"},
    "description": "Id of the last event received: changes since then are sent first.",
}


@routes.add(
    "GET", "/workflows/{id}/events", Role.VIEWER, "Watch a workflow", parameters=[_LAST], responses=_RESPONSES
)
async def watch_workflow(asked: AdmittedRequest) -> Response:
    """Stream a workflow's state, now and after each change."""
    only(asked.request.query_params)
    workflow_id, last, hub = segment(asked.request.path_params["id"]), _last(asked), await _hub(asked)
    watch = Watch(workflow_id)
    hub.add(watch)  # subscribe first, so that no change is missed while the current state is read
    try:
        told = await _current(asked, hub, watch, last)
    except BaseException:
        hub.remove(watch)
        raise
    return _Stream(asked, hub, watch, _all([told] if told is not None else []))


@routes.add(
    "GET",
    "/workflows/events",
    Role.VIEWER,
    "Watch workflows",
    parameters=[*FILTER_PARAMETERS, _LAST],
    responses=_RESPONSES,
)
async def watch_workflows(asked: AdmittedRequest) -> Response:
    """Stream the workflows that match the filter, each after each change; from now on, or from
    `Last-Event-ID`.
    """
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
    """A stream to one reader. When it ends, for any reason, the hub forgets the reader."""

    def __init__(
        self, asked: AdmittedRequest, hub: Hub, watch: Watch, first: AsyncIterator[EncodedEvent]
    ) -> None:
        self._asked = asked
        self._hub = hub
        self._watch = watch
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(self._told(first), headers=headers, media_type="text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            async with asyncio.timeout(STUCK_S):
                await send(message)

        try:
            await super().__call__(scope, receive, sent)
        except TimeoutError:
            abort(scope)
            await asyncio.sleep(0)  # for the server to notice
        finally:
            self._hub.remove(self._watch)

    async def _told(self, first: AsyncIterator[EncodedEvent]) -> AsyncIterator[bytes]:
        yield b"retry: %d\n\n" % RETRY_MS
        watch = self._watch
        async for told in first:
            watch.send(told)
            del told  # the watch holds it, and releases it when the reader is cut
            while data := watch.piece():
                yield data
            if watch.is_cut:
                break
        admitted_at = time.monotonic()
        while not watch.is_over:
            data = await watch.next()
            if time.monotonic() - admitted_at > ADMITTED_S:
                if not await self._asked.is_still_admitted():
                    return
                admitted_at = time.monotonic()
            if data or not watch.is_over:
                yield data or self._hub.encoder.mark(self._hub.number).data


async def _hub(asked: AdmittedRequest) -> Hub:
    hubs: Hubs = asked.request.app.state.hubs
    hub = hubs.whole if asked.has_payloads else hubs.outlines
    if len(hubs) >= WATCHERS:
        raise problem(
            "unavailable", f"this process already has {WATCHERS} streams; retry to reach another process"
        )
    await asked.backend.feed.begun()
    return hub


def _last(asked: AdmittedRequest) -> EventId | None:
    text = asked.request.headers.get("last-event-id", "")
    if not text:
        return None
    found = EventId.parse(text)
    if found is None:
        raise refused(f"Last-Event-ID {text[:60]!r} was not issued by a perdure stream")
    return found


async def _current(
    asked: AdmittedRequest, hub: Hub, watch: Watch, last: EventId | None
) -> EncodedEvent | None:
    """The workflow's current state; None: the reader knows it."""
    workflow_id, number = watch.workflow_id, hub.number
    changed = hub.since(last) if last is not None else None
    if changed is not None:
        return next((hub.encoder.event(*each) for each in changed if each[1] == workflow_id), None)
    found = hub.current(workflow_id) if asked.backend.reader is not None else None
    if found is None:
        await asked.backend.has_all(LAG_S, workflow_id)
        found = await asked.backend.state(workflow_id)
    if found is None:
        raise problem("workflow-not-found", f"no workflow has the id {workflow_id!r}")
    found = asked.shown(found)
    watch.knows(found)
    if last is not None and found.updated_at < last.moment:
        return hub.encoder.mark(number)
    return hub.encoder.event(number, workflow_id, found)


async def _missed(
    asked: AdmittedRequest, hub: Hub, watch: Watch, query: ListQuery, last: EventId | None
) -> AsyncIterator[EncodedEvent]:
    """Changes since the reader's position, and the reader's position after them."""
    number = hub.number
    # a list that was read just now, from tables that lag behind, may lack changes that were sent
    # just before
    if last is None:
        return _found(hub, query, hub.lately() if asked.backend.reader is not None else [], number)
    changed = hub.since(last)
    if changed is None:
        await asked.backend.has_all(LAG_S)
        return _read(asked, hub, watch, query, last)
    return _found(hub, query, changed, number)


async def _found(
    hub: Hub, query: ListQuery, changed: Sequence[tuple[int, str, WorkflowState | None]], number: int
) -> AsyncIterator[EncodedEvent]:
    """Send states one by one; each is encoded when the reader has accepted the previous one."""
    lasting = lasting_of(query)
    for each in changed:
        if each[2] is None or lasting.matches(each[2]):
            yield hub.encoder.event(*each, query)
    yield hub.encoder.mark(number)


async def _read(
    asked: AdmittedRequest, hub: Hub, watch: Watch, query: ListQuery, last: EventId
) -> AsyncIterator[EncodedEvent]:
    """Read states page by page. Until the last page was sent, event ids have only a time, so that a
    reader that is cut off resumes from there.
    """
    number = hub.number
    wanted = replace(
        lasting_of(query),
        updated_after=max(0, last.moment - OVERLAP_US),
        sort="updated_at",
        order="oldest",
        limit=PAGE_LIMIT,
        max_bytes=PAGE_BYTES,
    )
    while True:
        page = await asked.backend.read_large(lambda reader, wanted=wanted: reader.list(wanted))  # type: ignore[misc]
        following = wanted.key_of(page[-1]) if wanted.is_cut(page) else None
        page.reverse()
        while page:  # a state that was sent is not kept until the others are sent
            state = page.pop()
            watch.knows(state)
            yield hub.encoder.event(0, state.workflow_id, asked.shown(state), query)
        if following is None:
            break
        wanted = replace(wanted, after=following)
    yield hub.encoder.mark(number)


async def _all(parts: Sequence[EncodedEvent]) -> AsyncIterator[EncodedEvent]:
    for each in parts:
        yield each
