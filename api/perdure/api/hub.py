"""Fans out state changes to the SSE subscribers of one process.

An event is encoded once, and its subscribers share the bytes. Two limits bound the cost of slow
readers: one for the queue of each reader, one for all waiting bytes of the process. Beyond them,
the reader that is furthest behind is disconnected. It loses no data: it reconnects with
`Last-Event-ID`.

An event's id is `<moment>-<epoch>-<number>`: the time of the change, microseconds since 1970; the
epoch of this hub; and the number of the change. A client that reconnects with it gets exactly the
changes since, as long as the hub remembers them; events of another process are found by the moment
(`streams.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from perdure.api.change_events import EncodedEvent, EventEncoder, EventId, Version, version_of
from perdure.api.sending import SLICE
from perdure.client.listing import ListQuery
from perdure.codec.readable import PLAIN, Readable

if TYPE_CHECKING:
    from perdure.api.feeds import Change, Feed
    from perdure.model.states import WorkflowState

REMEMBERED: Final = 10_000
"""Workflows whose last change the hub remembers."""
REMEMBERED_BYTES: Final = 16 * 1024 * 1024
LATELY_S: Final = 3.0
"""The longest time that tables are assumed to lag behind."""
QUEUE: Final = 1_000
"""The most changes that may queue for a reader; a slower one is disconnected, and reconnects where
it left off."""
QUEUE_BYTES: Final = 2 * 1024 * 1024
WAITING_BYTES: Final = 32 * 1024 * 1024
"""The most bytes that may wait in the process, each event counted once."""
GATHER_S: Final = 0.1
"""Changes within this time are sent together, so that a busy list costs ten writes per second and
reader, not one per change."""
HEARTBEAT_S: Final = 15.0
CUT: Final = (
    b'event: cut\ndata: {"reason":"you read too slowly: connect again with the id of the last event as '
    b'Last-Event-ID, to get what has changed since"}\n\n'
)
BYE: Final = b"event: bye\ndata: {}\n\n"


@dataclass(slots=True)
class _Seen:
    number: int
    state: WorkflowState | None
    size: int


class Hub:
    """Gives every change to its subscribers. Belongs to the server's loop.

    Args:
        readable: decodes what the app's codec has encoded.

    Attributes:
        encoder: encodes its events.
        number: the number of changes so far.
        closing: set when the server stops.
        waiting: the bytes that wait for readers, each event counted once.
    """

    def __init__(self, readable: Readable = PLAIN) -> None:
        self.encoder = EventEncoder(readable)
        self.number = 1
        self._seen: dict[str, _Seen] = {}  # the latest change last
        self._size = 0
        self._times: deque[tuple[float, int]] = deque()
        self._forgotten = 1
        self._by_id: dict[str, set[Watch]] = {}
        self._by_query: dict[ListQuery, set[Watch]] = {}
        self._lasting: dict[ListQuery, ListQuery] = {}
        self.closing = asyncio.Event()
        self.waiting = 0

    def start(self, feed: Feed) -> None:
        """Subscribe to the feed."""
        feed.start(self.publish)

    def publish(self, changes: Sequence[Change]) -> None:
        """Give each change to its subscribers, in order."""
        # Times and the numbers current at those times: `lately` uses them to find changes that
        # tables may not show yet.
        now = time.monotonic()
        self._times.append((now, self.number))
        while self._times[0][0] < now - LATELY_S:
            self._times.popleft()
        for workflow_id, state in changes:
            # Also without subscribers: a reader that reconnects asks for the changes since.
            before = self._remember(workflow_id, state)
            watching = self._by_id.get(workflow_id)
            if not watching and not self._by_query:
                continue
            version = version_of(state) if state is not None else None
            event = self.encoder.event(self.number, workflow_id, state)
            for watch in watching or ():
                watch.put(event, workflow_id, version)
            left: EncodedEvent | None = None
            for query, watches in self._by_query.items():
                if state is None or query.matches(state):
                    data = event
                elif query.matches(before) if before is not None else self._lasting[query].matches(state):
                    # It matched before, or may have if the hub has forgotten. Readers may have it
                    # in their lists, so they get an event that it left.
                    data = left = left or self.encoder.event(self.number, workflow_id, state, query)
                else:
                    continue
                for watch in watches:
                    watch.put(data, workflow_id, version)

    def hold(self, event: EncodedEvent) -> None:
        """Count an event that waits for one more reader. If too many bytes wait, the readers that
        are furthest behind are disconnected.
        """
        event.holders += 1
        if event.holders == 1:
            self.waiting += len(event.data)
            if self.waiting > WAITING_BYTES:
                self._make_room()

    def _make_room(self) -> None:
        """Cut slow readers until three quarters of the limit are left, so that this is not done
        again at the next event.
        """
        for watch in sorted(self._all(), key=lambda each: each.size, reverse=True):
            if self.waiting <= WAITING_BYTES * 3 // 4:
                return
            watch.cut()

    def free(self, event: EncodedEvent) -> None:
        """Count an event that waits for one reader less."""
        event.holders -= 1
        if not event.holders:
            self.waiting -= len(event.data)

    def current(self, workflow_id: str) -> WorkflowState | None:
        """The last known state of a workflow; None: not remembered."""
        found = self._seen.get(workflow_id)
        return found.state if found is not None else None

    def since(self, last: EventId) -> list[tuple[int, str, WorkflowState | None]] | None:
        """Number, id and state of each workflow that has changed since, ordered by number; None:
        the hub does not remember.
        """
        if last.epoch != self.encoder.epoch or not self._forgotten <= last.number <= self.number:
            return None
        return self._after(last.number)

    def lately(self) -> list[tuple[int, str, WorkflowState | None]]:
        """The workflows that have changed within the last `LATELY_S`."""
        begin = time.monotonic() - LATELY_S
        number = next((number for moment, number in self._times if moment >= begin), self.number)
        return self._after(number)

    def _after(self, number: int) -> list[tuple[int, str, WorkflowState | None]]:
        found: list[tuple[int, str, WorkflowState | None]] = []
        for workflow_id, seen in reversed(self._seen.items()):
            if seen.number <= number:
                break
            found.append((seen.number, workflow_id, seen.state))
        return found[::-1]

    def add(self, watch: Watch) -> None:
        """Add a subscriber."""
        watch.hub = self
        if self.closing.is_set():
            watch.say_goodbye()
        self._others(watch).add(watch)
        if watch.query is not None:
            self._lasting[watch.query] = lasting_of(watch.query)

    def remove(self, watch: Watch) -> None:
        """Remove a subscriber and its queue."""
        watch.drop()
        others = self._others(watch)
        others.discard(watch)
        if not others:
            if watch.query is not None:
                del self._by_query[watch.query], self._lasting[watch.query]
            else:
                del self._by_id[watch.workflow_id]

    def say_goodbye(self) -> None:
        """Tell all subscribers that the server stops; they reconnect elsewhere."""
        self.closing.set()
        for watch in self._all():
            watch.say_goodbye()

    def __len__(self) -> int:
        """Number of subscribers."""
        return sum(1 for _ in self._all())

    def _all(self) -> Iterator[Watch]:
        for watches in (*self._by_id.values(), *self._by_query.values()):
            yield from watches

    def _others(self, watch: Watch) -> set[Watch]:
        if watch.query is not None:
            return self._by_query.setdefault(watch.query, set())
        return self._by_id.setdefault(watch.workflow_id, set())

    def _remember(self, workflow_id: str, state: WorkflowState | None) -> WorkflowState | None:
        """Remember a state, and return the previous one; None: unknown."""
        self.number += 1
        before = self._seen.pop(workflow_id, None)
        if before is not None:
            self._size -= before.size
        size = 0
        if state is not None:
            self.encoder.moment = max(self.encoder.moment, state.updated_at)
            size = len(state.view) + len(state.result) + len(state.attributes)
            size += len(state.memo) + len(state.details)
        self._seen[workflow_id] = _Seen(self.number, state, size)
        self._size += size
        while len(self._seen) > REMEMBERED or self._size > REMEMBERED_BYTES:
            oldest = self._seen.pop(next(iter(self._seen)))
            self._size -= oldest.size
            self._forgotten = oldest.number
        return before.state if before is not None else None


def _id_of(event: bytes) -> bytes:
    """The id of a change that the reader knows already; it advances the reader's position without
    an event.
    """
    return event[: event.index(b"\n")] + b"\n\n"


def lasting_of(query: ListQuery) -> ListQuery:
    """The filters that a workflow never stops matching once it matches them."""
    return replace(
        query, statuses=(), updated_after=None, updated_before=None, closed_after=None, closed_before=None
    )


class Watch:
    """The subscription of one reader. Belongs to the server's loop.

    Args:
        workflow_id: watch this workflow.
        query: or watch all workflows that match its filters.

    Attributes:
        size: the bytes that wait or are being sent.
        is_cut: the reader was too slow and was disconnected.
        has_ended: no further events will be added.
        is_over: everything was handed out.
    """

    def __init__(self, workflow_id: str = "", query: ListQuery | None = None) -> None:
        self.workflow_id = workflow_id
        self.query = query
        self.hub: Hub | None = None
        self.size = 0
        self.is_cut = False
        self.has_ended = False
        self.is_over = False
        self._waiting: deque[tuple[EncodedEvent, str, Version | None]] = deque()
        self._sending: EncodedEvent | None = None
        self._sent = 0  # bytes of it
        self._known: dict[str, Version] = {}
        self._woken: asyncio.Future[None] | None = None
        self._sent_at = 0.0
        self._is_emptied = True

    def knows(self, state: WorkflowState) -> None:
        """Record that the reader knows everything up to this version; older changes are not
        sent.
        """
        self._known[state.workflow_id] = version_of(state)

    def put(self, event: EncodedEvent, workflow_id: str, version: Version | None) -> None:
        """Queue an event, unless the reader is too slow."""
        if self.is_cut:
            return
        if len(self._waiting) >= QUEUE or (self._waiting and self.size + len(event.data) > QUEUE_BYTES):
            self.cut()
            return
        self._waiting.append((event, workflow_id, version))
        self._hold(event)
        self._wake()

    def send(self, event: EncodedEvent) -> None:
        """Send an event before the queue, by the next calls of `piece`."""
        self._release()
        if not self.is_cut:
            self._sending, self._sent = event, 0
            self._hold(event)

    def cut(self) -> None:
        """Disconnect a reader that is too slow, and drop its queue. An event that was sent in part
        stays incomplete, so the reader ignores it.
        """
        self.is_cut = True
        self.drop()
        self._wake()

    def drop(self) -> None:
        """Drop all queued changes."""
        waiting, self._waiting = self._waiting, deque()
        for event, _, _ in waiting:
            self._free(event)
        is_begun = self._sent > 0
        self._release()
        self.is_over = self.is_over or is_begun

    def say_goodbye(self) -> None:
        """End the subscription after its queued events."""
        self.has_ended = True
        self._wake()

    def piece(self) -> bytes:
        """The next slice of the event that is being sent; empty: it was sent completely."""
        event = self._sending
        if event is None:
            return b""
        data = event.data[self._sent : self._sent + SLICE]
        self._sent += len(data)
        if self._sent >= len(event.data):
            self._release()
        return data

    async def next(self) -> bytes:
        """The next bytes to send, at most one slice; empty after a time without changes. See
        `is_over` for the end.
        """
        if data := self.piece():
            return data
        if not self._waiting and not self._is_ending:
            await self._wait(HEARTBEAT_S)
            if not self._waiting and not self._is_ending:
                return b""
        if self._is_emptied:
            if (left_s := self._sent_at + GATHER_S - time.monotonic()) > 0 and not self._is_ending:
                await asyncio.sleep(left_s)
            self._sent_at, self._is_emptied = time.monotonic(), False
        parts: list[bytes] = []
        size = 0
        while self._waiting and size + len(self._waiting[0][0].data) <= SLICE:
            event, workflow_id, version = self._waiting.popleft()
            self._free(event)
            parts.append(event.data if self._is_news(workflow_id, version) else _id_of(event.data))
            size += len(parts[-1])
        if not parts and self._waiting:
            event, workflow_id, version = self._waiting.popleft()
            self.send(event if self._is_news(workflow_id, version) else EncodedEvent(_id_of(event.data)))
            self._free(event)
            self._is_emptied = not self._waiting
            return self.piece()
        self._is_emptied = not self._waiting
        if not self._waiting and self._is_ending and not self.is_over:
            self.is_over = True
            parts.append(CUT if self.is_cut else BYE)
        return b"".join(parts)

    @property
    def _is_ending(self) -> bool:
        return self.is_cut or self.has_ended

    def _hold(self, event: EncodedEvent) -> None:
        self.size += len(event.data)
        if self.hub is not None:
            self.hub.hold(event)

    def _free(self, event: EncodedEvent) -> None:
        self.size -= len(event.data)
        if self.hub is not None:
            self.hub.free(event)

    def _release(self) -> None:
        event, self._sending, self._sent = self._sending, None, 0
        if event is not None:
            self._free(event)

    def _is_news(self, workflow_id: str, version: Version | None) -> bool:
        known = self._known.get(workflow_id)
        if known is None:
            return True
        if version is not None and version <= known:
            return False
        del self._known[workflow_id]
        return True

    async def _wait(self, seconds: float) -> None:
        self._woken = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait((self._woken,), timeout=seconds)
        finally:
            self._woken = None

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)
