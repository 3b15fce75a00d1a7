"""Who watches, and what they are to be told: one hub a process, however many watch.

An event's id is `<moment>-<epoch>-<number>`: of the change, microseconds since 1970; of this hub; and the how many-th change it saw. Who comes again with it is
told what has changed since, exactly, as long as the hub remembers; what another process has told is found by the moment (`streams.py`).
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from perdure.api.shapes import state as shape
from perdure.client.listing import ListQuery

if TYPE_CHECKING:
    from perdure.api.feeds import Change, Feed
    from perdure.model.states import WorkflowState

REMEMBERED: Final = 10_000
"""Workflows whose last change the hub remembers."""
REMEMBERED_BYTES: Final = 32 * 1024 * 1024
LATELY_S: Final = 3.0
"""What tables that are behind may not have yet."""
QUEUE: Final = 1_000
"""Changes that may wait for a reader; a slower one is cut, and comes again where it was."""
QUEUE_BYTES: Final = 4 * 1024 * 1024
GATHER_S: Final = 0.1
"""What changes within this time is sent at once: a busy list costs ten writes a second and reader, not one a change."""
HEARTBEAT_S: Final = 15.0
CUT: Final = b'event: cut\ndata: {"reason":"you read too slowly; come again with the last id"}\n\n'
BYE: Final = b"event: bye\ndata: {}\n\n"

_ENCODER: Final = msgspec.json.Encoder()
_ID: Final = re.compile(r"([0-9]{1,18})(?:-([0-9a-f]{8})-([0-9]{1,18}))?")

Version = tuple[int, str, int]
"""Of a state: grows with every change of a workflow."""


def version_of(state: WorkflowState) -> Version:
    """When it was written, by which run, and after how many events: clocks that stand still do not matter."""
    return state.updated_at, state.run_id, state.history_length


@dataclass(frozen=True, slots=True)
class EventId:
    """Where a reader was."""

    moment: int
    epoch: str
    number: int

    @classmethod
    def parse(cls, text: str) -> EventId | None:
        """None when it is none of ours."""
        found = _ID.fullmatch(text)
        return cls(int(found[1]), found[2] or "", int(found[3] or 0)) if found else None


@dataclass(slots=True)
class _Seen:
    number: int
    state: WorkflowState | None
    size: int


class Hub:
    """Hands every change to those who watch for it, encoded once. Belongs to the server's loop.

    Attributes:
        epoch: tells this hub from others.
        number: changes it has seen.
        closing: set when the server stops.
    """

    def __init__(self) -> None:
        self.epoch = os.urandom(4).hex()
        self.number = 1
        self._moment = 0
        self._seen: dict[str, _Seen] = {}  # the latest change last
        self._size = 0
        self._times: deque[tuple[float, int]] = deque()
        self._forgotten = 1
        self._by_id: dict[str, set[Watch]] = {}
        self._by_query: dict[ListQuery, set[Watch]] = {}
        self._lasting: dict[ListQuery, ListQuery] = {}
        self.closing = asyncio.Event()

    def start(self, feed: Feed) -> None:
        """Be told."""
        feed.start(self.publish)

    def publish(self, changes: Sequence[Change]) -> None:
        """Tell."""
        now = time.monotonic()
        self._times.append((now, self.number))
        while self._times[0][0] < now - LATELY_S:
            self._times.popleft()
        for workflow_id, state in changes:
            before = self._remember(workflow_id, state)
            watching = self._by_id.get(workflow_id)
            if not watching and not self._by_query:
                continue
            version = version_of(state) if state is not None else None
            told = self.event(self.number, workflow_id, state)
            for watch in watching or ():
                watch.put(told, workflow_id, version)
            left = b""
            for query, watches in self._by_query.items():
                if state is None or query.matches(state):
                    data = told
                elif (
                    query.matches(before) if before is not None else self._lasting[query].matches(state)
                ):  # a reader may have it in its list
                    data = left = left or self.event(self.number, workflow_id, state, query)
                else:
                    continue
                for watch in watches:
                    watch.put(data, workflow_id, version)

    def event(self, number: int, workflow_id: str, state: WorkflowState | None, query: ListQuery | None = None) -> bytes:
        """As it is sent: what a workflow is now, that it was deleted, or that the filters of a query let it through no longer.

        Args:
            number: of the change; 0: nobody knows.
            workflow_id: of the workflow.
            state: its own; None: it was deleted.
            query: whose filters count.
        """
        if state is None:
            return self._event(self._id(self._moment, number), b"deleted", {"id": workflow_id})
        event_id = self._id(state.updated_at, number)
        if query is not None and not query.matches(state):
            return self._event(event_id, b"left", {"id": workflow_id})
        return self._event(event_id, b"state", shape(state))

    def mark(self, number: int) -> bytes:
        """Where a reader is who knows everything up to a change: taken note of, and not shown."""
        return b"id: %b\n\n" % self._id(max(self._moment, time.time_ns() // 1_000), number)

    def current(self, workflow_id: str) -> WorkflowState | None:
        """What a workflow is as far as the hub was told; None: it does not remember."""
        found = self._seen.get(workflow_id)
        return found.state if found is not None else None

    def since(self, last: EventId) -> list[tuple[int, str, WorkflowState | None]] | None:
        """Number, id and state of each workflow that has changed since, in that order; None: the hub cannot say."""
        if last.epoch != self.epoch or not self._forgotten <= last.number <= self.number:
            return None
        return self._after(last.number)

    def lately(self) -> list[tuple[int, str, WorkflowState | None]]:
        """The same for the last `LATELY_S`."""
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
        """Somebody watches."""
        if self.closing.is_set():
            watch.say_goodbye()
        self._others(watch).add(watch)
        if watch.query is not None:
            self._lasting[watch.query] = lasting_of(watch.query)

    def remove(self, watch: Watch) -> None:
        """No longer."""
        others = self._others(watch)
        others.discard(watch)
        if not others:
            if watch.query is not None:
                del self._by_query[watch.query], self._lasting[watch.query]
            else:
                del self._by_id[watch.workflow_id]

    def say_goodbye(self) -> None:
        """The server stops: they come again, elsewhere."""
        self.closing.set()
        for watch in self._all():
            watch.say_goodbye()

    def __len__(self) -> int:
        """How many watch."""
        return sum(1 for _ in self._all())

    def _all(self) -> Iterator[Watch]:
        for watches in (*self._by_id.values(), *self._by_query.values()):
            yield from watches

    def _others(self, watch: Watch) -> set[Watch]:
        if watch.query is not None:
            return self._by_query.setdefault(watch.query, set())
        return self._by_id.setdefault(watch.workflow_id, set())

    def _id(self, moment: int, number: int) -> bytes:
        return b"%d-%b-%d" % (moment, self.epoch.encode(), number) if number else b"%d" % moment

    def _event(self, event_id: bytes, kind: bytes, data: object) -> bytes:
        return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id, kind, _ENCODER.encode(data))

    def _remember(self, workflow_id: str, state: WorkflowState | None) -> WorkflowState | None:
        """What it was before; None: nobody knows."""
        self.number += 1
        before = self._seen.pop(workflow_id, None)
        if before is not None:
            self._size -= before.size
        size = 0
        if state is not None:
            self._moment = max(self._moment, state.updated_at)
            size = len(state.view) + len(state.result) + len(state.attributes)
        self._seen[workflow_id] = _Seen(self.number, state, size)
        self._size += size
        while len(self._seen) > REMEMBERED or self._size > REMEMBERED_BYTES:
            oldest = self._seen.pop(next(iter(self._seen)))
            self._size -= oldest.size
            self._forgotten = oldest.number
        return before.state if before is not None else None


def _id_of(told: bytes) -> bytes:
    """Where a reader is who knows it already: taken note of, and not shown."""
    return told[: told.index(b"\n")] + b"\n\n"


def lasting_of(query: ListQuery) -> ListQuery:
    """The filters that hold for ever when they hold once."""
    return replace(query, statuses=(), updated_after=None, updated_before=None, closed_after=None, closed_before=None)


class Watch:
    """What one reader is to be told. Belongs to the server's loop.

    Args:
        workflow_id: of this workflow.
        query: or of all that its filters let through.
    """

    def __init__(self, workflow_id: str = "", query: ListQuery | None = None) -> None:
        self.workflow_id = workflow_id
        self.query = query
        self.is_cut = False
        self.has_ended = False
        self._waiting: list[tuple[bytes, str, Version | None]] = []
        self._size = 0
        self._known: dict[str, Version] = {}
        self._woken: asyncio.Future[None] | None = None
        self._sent_at = 0.0

    def knows(self, state: WorkflowState) -> None:
        """Somebody has told the reader this much; what is older is not told."""
        self._known[state.workflow_id] = version_of(state)

    def put(self, told: bytes, workflow_id: str, version: Version | None) -> None:
        """Have it sent, unless the reader is too slow."""
        if self.is_cut:
            return
        if len(self._waiting) >= QUEUE or self._size + len(told) > QUEUE_BYTES:
            self.is_cut = True
            return
        self._waiting.append((told, workflow_id, version))
        self._size += len(told)
        self._wake()

    def say_goodbye(self) -> None:
        """There is no more to come."""
        self.has_ended = True
        self._wake()

    async def next(self) -> bytes:
        """What is to be sent now: all that waits; nothing for a while: empty. When it was cut or has ended, that is said last."""
        if not self._waiting and not self.has_ended:
            await self._wait(HEARTBEAT_S)
            if not self._waiting and not self.has_ended:
                return b""
        if (left_s := self._sent_at + GATHER_S - time.monotonic()) > 0 and not self.has_ended:
            await asyncio.sleep(left_s)
        self._sent_at = time.monotonic()
        taken, self._waiting, self._size = self._waiting, [], 0
        parts = [told if self._is_news(workflow_id, version) else _id_of(told) for told, workflow_id, version in taken]
        if self.is_cut:
            parts.append(CUT)
        elif self.has_ended:
            parts.append(BYE)
        return b"".join(parts)

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
