"""State changes as server-sent events, and their ids.

An event's id is `<moment>-<epoch>-<number>`: of the change, microseconds since 1970; of the hub;
and the change's number.
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
    from perdure.client.listing import ListQuery
    from perdure.model.states import WorkflowState

_ENCODER: Final = msgspec.json.Encoder()
_ID: Final = re.compile(r"([0-9]{1,18})(?:-([0-9a-f]{8})-([0-9]{1,18}))?")

Version = tuple[int, str, int]
"""Of a state: grows with every change of a workflow."""


def version_of(state: WorkflowState) -> Version:
    """Orders versions of a state: by write time, run, and number of events, so that equal clocks do
    not matter.
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
        """Parse an id; None: it is not one of this hub's format."""
        found = _ID.fullmatch(text)
        return cls(int(found[1]), found[2] or "", int(found[3] or 0)) if found else None


class EncodedEvent:
    """An encoded event. All its subscribers share one copy.

    Attributes:
        data: as sent.
        holders: for how many it waits.
    """

    __slots__ = ("__weakref__", "data", "holders")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.holders = 0


class EventEncoder:
    """Encodes the events of one hub. An event is encoded once, for as long as a reader waits for
    it.

    Args:
        readable: decodes what the app's codec has encoded.

    Attributes:
        epoch: tells this hub from others.
        moment: of the latest change, microseconds since 1970.
    """

    def __init__(self, readable: Readable = PLAIN) -> None:
        self._readable = readable
        self.epoch = os.urandom(4).hex()
        self.moment = 0
        self._encoded: WeakValueDictionary[tuple[int, str, Version], EncodedEvent] = WeakValueDictionary()

    def event(
        self, number: int, workflow_id: str, state: WorkflowState | None, query: ListQuery | None = None
    ) -> EncodedEvent:
        """Encode one event: the workflow's state, that it was deleted, or that it no longer matches
        the query's filters.

        Args:
            number: of the change; 0: nobody knows.
            workflow_id: of the workflow.
            state: its own; None: it was deleted.
            query: whose filters count.
        """
        if state is None:
            return self._event(self._id(self.moment, number), b"deleted", {"id": workflow_id})
        event_id = self._id(state.updated_at, number)
        if query is not None and not query.matches(state):
            return self._event(event_id, b"left", {"id": workflow_id})
        key = number, workflow_id, version_of(state)
        found = self._encoded.get(key)
        if found is None:
            found = self._encoded[key] = self._event(event_id, b"state", shape(self._readable.struct(state)))
        return found

    def mark(self, number: int) -> EncodedEvent:
        """A comment that carries the reader's position without showing an event."""
        return EncodedEvent(b"id: %b\n\n" % self._id(max(self.moment, time.time_ns() // 1_000), number))

    def _id(self, moment: int, number: int) -> bytes:
        return b"%d-%b-%d" % (moment, self.epoch.encode(), number) if number else b"%d" % moment

    def _event(self, event_id: bytes, kind: bytes, data: object) -> EncodedEvent:
        return EncodedEvent(b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id, kind, _ENCODER.encode(data)))
