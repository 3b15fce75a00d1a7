"""Facts of a run for people: its memo, and its details."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Raw

from perdure.errors import ValueUnavailable
from perdure.model.actions import SetDetails
from perdure.replay.recorded_values import unreadable
from perdure.replay.suspensions import SUSPENDING

if TYPE_CHECKING:
    from perdure.model.payloads import Payloads
    from perdure.replay.loop import RunLoop


class Notes:
    """The notes of one run.

    Replay does not match details, so that their text may be changed at any time: while recorded
    events are replayed, they are only remembered.

    Args:
        loop: of the run.
        payloads: decodes its memo.
        memo: that of its start, a payload; empty: it has none.

    Attributes:
        details: the last text that the code has set; empty: none.
    """

    __slots__ = ("_has_set", "_loop", "_memo", "_payloads", "_read", "details")

    def __init__(self, loop: RunLoop, payloads: Payloads, memo: bytes) -> None:
        self._loop = loop
        self._payloads = payloads
        self._memo = memo
        self._read: dict[str, Raw] | None = None
        self._has_set = False
        self.details = ""

    def set_details(self, text: str) -> None:
        """Set the details; the last text of an activation counts.

        Raises:
            UsageError: the loop is read only.
        """
        loop = self._loop
        loop.refuse_if_read_only("set the details of the run")
        if loop.is_evicted:
            return
        self.details, self._has_set = text, True
        if not loop.replaying:
            loop.actions.withdraw(SetDetails, 0)
            loop.actions.items.append(SetDetails(text))

    def replayed(self) -> list[Any]:
        """The action to record after the replay of a suspended run, whose history may have other
        details than its code has set.
        """
        return [SetDetails(self.details)] if self._has_set else []

    def memo(self) -> dict[str, Any]:
        """The memo as JSON values, by name; a new dict each time.

        Raises:
            UsageError: it cannot be decoded; the run is suspended.
        """
        return {name: self._value(name, value, Any) for name, value in self._values().items()}

    def memo_value(self, name: str, annotation: Any) -> Any:
        """One value of the memo, decoded by an annotation; None: there is none, or it is null.

        Raises:
            UsageError: it cannot be decoded; the run is suspended.
        """
        found = self._values().get(name)
        return None if found is None or bytes(found) == b"null" else self._value(name, found, annotation)

    def _values(self) -> dict[str, Raw]:
        found = self._read
        if found is None:
            found = self._read = self._decoded(self._memo, dict[str, Raw], "the memo") if self._memo else {}
        return found

    def _value(self, name: str, value: Raw, annotation: Any) -> Any:
        return self._decoded(bytes(value), annotation, f"the value {name!r} of the memo")

    def _decoded(self, payload: bytes, annotation: Any, what: str) -> Any:
        try:
            return self._payloads.decode(payload, annotation, what=what)
        except SUSPENDING:
            raise
        except ValueUnavailable as error:
            self._loop.suspend_for(error)  # until its key is back
            raise
        except BaseException as error:
            raise self._loop.misuse(unreadable(error, what)) from error
