"""States and histories for people: encoded and stored payloads as plain JSON, if they can be read
here, or else unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from msgspec.structs import replace

from perdure.codec.payloads import JsonPayloads
from perdure.errors import PayloadError
from perdure.model.events import WorkflowStarted
from perdure.model.failure import FailureInfo

if TYPE_CHECKING:
    from perdure.model.events import EventRecord

S = TypeVar("S", bound=msgspec.Struct)


class Readable:
    """Makes recorded values readable.

    Args:
        payloads: with the codec and the store of the app.
    """

    __slots__ = ("_payloads",)

    def __init__(self, payloads: JsonPayloads) -> None:
        self._payloads = payloads

    def payload(self, data: bytes) -> bytes:
        """The JSON of a payload, or the payload itself."""
        if data[:1] == b"\0":
            with suppress(PayloadError):
                return self._payloads.to_json(data, what="the value")
        return data

    def failure(self, info: FailureInfo) -> FailureInfo:
        """A failure with its decoded message or, if it cannot be decoded, only its plain parts."""
        with suppress(PayloadError):
            return self._payloads.open_failure(info)
        return info

    def struct(self, found: S) -> S:
        """A state, an event or a reply: its payloads and failures."""
        if not self._payloads.wraps:
            return found
        changed: dict[str, Any] = {}
        for name in found.__struct_fields__:
            value = getattr(found, name)
            if type(value) is bytes:
                if (data := self.payload(value)) is not value:
                    changed[name] = data
            elif name == "tokens" and isinstance(found, WorkflowStarted):
                changed[name] = tuple(map(self.struct, found.tokens))
            elif type(value) is FailureInfo and (failure := self.failure(value)) is not value:
                changed[name] = failure
        return replace(found, **changed) if changed else found

    def structs(self, found: Sequence[S]) -> list[S]:
        """Several."""
        return [self.struct(each) for each in found]

    def records(self, records: Iterable[EventRecord]) -> list[EventRecord]:
        """A history; its hashes remain those of what is recorded."""
        return [replace(each, events=[self.struct(event) for event in each.events]) for each in records]


def as_it_is(info: FailureInfo) -> FailureInfo:
    """A failure in its recorded form."""
    return info


Open = Callable[[FailureInfo], FailureInfo]
PLAIN: Final = Readable(JsonPayloads())
"""For processes without an app."""
