"""State changes as server-sent events, and their ids.

An event's id is `<moment>-<epoch>-<number>`: the time of the change, microseconds since 1970; the
epoch of the hub; and the number of the change.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import msgspec

from perdure.api.json_views import state as shape
from perdure.codec.readable import PLAIN, Readable

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.client.listing import ListQuery
    from perdure.model.states import WorkflowState

_ENCODER: Final = msgspec.json.Encoder()
_ID: Final = re.compile(r"([0-9]{1,18})(?:-([0-9a-f]{8})-([0-9]{1,18}))?")

Version = tuple[int, str, int]
"""The version of a state; it grows with every change of a workflow."""


def version_of(state: WorkflowState) -> Version:
    """The version of a state: write time, run, and number of events, so that states of the same
    time are ordered, too.
    """
    return state.updated_at, state.run_id, state.history_length


@dataclass(frozen=True, slots=True)
class EventId:
    """A reader's position."""

    moment: int
    epoch: str
    number: int

    @classmethod
    def parse(cls, text: str) -> EventId | None:
        """Parse an id; None: it has another format."""
        found = _ID.fullmatch(text)
        return cls(int(found[1]), found[2] or "", int(found[3] or 0)) if found else None


class EncodedEvent:
    """An encoded event. All its subscribers share one copy.

    Attributes:
        data: the bytes to send.
        holders: the number of subscribers that it waits for.
    """

    __slots__ = ("__weakref__", "data", "holders")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.holders = 0


class EventEncoder:
    """Encodes the events of one hub. An event is encoded once; the bytes are kept while any reader
    waits for them.

    Args:
        readable: decodes what the app's codec has encoded.
        now: the time of day, microseconds since 1970.

    Attributes:
        epoch: distinguishes this hub from others.
        moment: the time of the latest change, microseconds since 1970.
    """

    def __init__(
        self, readable: Readable = PLAIN, now: Callable[[], int] = lambda: time.time_ns() // 1_000
    ) -> None:
        self._readable = readable
        self._now = now
        self.epoch = os.urandom(4).hex()
        self.moment = 0
        self._encoded: WeakValueDictionary[tuple[int, str, Version], EncodedEvent] = WeakValueDictionary()

    def event(
        self, number: int, workflow_id: str, state: WorkflowState | None, query: ListQuery | None = None
    ) -> EncodedEvent:
        """Encode one event: the workflow's state, its deletion, or the fact that it does not match
        the query's filters any more.

        Args:
            number: the number of the change; 0: unknown.
            workflow_id: the workflow's id.
            state: the workflow's state; None: it was deleted.
            query: has the filters.
        """
        if state is None:
            return self._event(self._id(self._latest(), number), b"deleted", {"id": workflow_id})
        event_id = self._id(min(state.updated_at, self._now()), number)
        if query is not None and not query.matches(state):
            return self._event(event_id, b"left", {"id": workflow_id})
        key = number, workflow_id, version_of(state)
        found = self._encoded.get(key)
        if found is None:
            found = self._encoded[key] = self._event(event_id, b"state", shape(self._readable.struct(state)))
        return found

    def mark(self, number: int) -> EncodedEvent:
        """A comment that carries the reader's position without showing an event."""
        return EncodedEvent(b"id: %b\n\n" % self._id(self._latest(), number))

    def _latest(self) -> int:
        """The moment that a position has: of the latest change, or now before the first.

        Another process finds the changes since by their times, which engines stamp. The clock of
        this machine, or of the engine of other workflows, may be an hour ahead of those: so a
        position has neither the time of day nor a time that is still to come.
        """
        now = self._now()
        return min(self.moment or now, now)

    def _id(self, moment: int, number: int) -> bytes:
        return b"%d-%b-%d" % (moment, self.epoch.encode(), number) if number else b"%d" % moment

    def _event(self, event_id: bytes, kind: bytes, data: object) -> EncodedEvent:
        return EncodedEvent(b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id, kind, _ENCODER.encode(data)))
