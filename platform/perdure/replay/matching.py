"""Matches the actions of the code against the history: by kind and number, in order.

Between two events that the code sees, its actions must be exactly those recorded there. A run that
was suspended has events that its code has not seen; the actions that follow from those are left
over, and are recorded when the run resumes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

from perdure import errors
from perdure.core.actions import fits, in_words
from perdure.core.registry import CANCELS, CLOSES, OPENS, RECORDED_AS
from perdure.model import actions as ac
from perdure.model import events as ev
from perdure.replay.streams import Streams


class Matching:
    """The bookkeeping of one replay.

    Args:
        run_id: for messages.
        place: the file and line where the code waits now, for messages; empty: it does not wait.
        streams: of a run that the history leaves suspended; None for all others.

    Attributes:
        is_suspended: the run is suspended after the last event that was read.
    """

    __slots__ = ("_open", "_place", "_run_id", "_streams", "_wanted", "is_suspended")

    def __init__(self, run_id: str, place: Callable[[], str], streams: Streams | None = None) -> None:
        self._run_id = run_id
        self._place = place
        self._streams = streams
        self._wanted: deque[ac.AnyAction] = deque()
        self._open: set[tuple[type[ev.Event], int]] = set()
        self.is_suspended = False

    def before(self, event_id: int, event: ev.AnyEvent) -> None:
        """Check, before the code is shown an event, that all its actions were matched.

        Raises:
            errors.ReplayError: the code has an action that is not recorded.
        """
        if self._streams is not None:
            self._streams.turn(was_suspended=self.is_suspended)
        if self._wanted and not self.is_suspended:
            self._drop_void()
            if self._wanted:
                self._diverged(event_id, event, self._wanted[0])
        self._follow(event)

    def wants(self, actions: Sequence[ac.AnyAction]) -> None:
        """Add the actions of the code after an event."""
        self._wanted.extend(actions)

    def recorded(self, event_id: int, event: ev.AnyEvent) -> None:
        """Match a recorded action with the next one of the code.

        Raises:
            errors.ReplayError: the next action of the code is another one.
        """
        wanted = self._wanted
        # Only on a mismatch: a cancellation is void just when its outcome was recorded first.
        if wanted and not fits(event, wanted[0]):
            self._drop_void()
        if not wanted or not fits(event, wanted[0]):
            self._diverged(event_id, event, wanted[0] if wanted else None)
        wanted.popleft()
        self._follow(event)

    def suspended(self, kind: type[ev.Event]) -> None:
        """Note that the run was suspended or paused here, so the code has not seen the following
        events, or that it resumed.

        Args:
            kind: the event. What the code did before a pause is durable.
        """
        is_durable = kind is ev.WorkflowResumed or (kind is ev.WorkflowPaused and not self.is_suspended)
        self.is_suspended = kind is not ev.WorkflowResumed
        if self._streams is not None and is_durable:
            self._streams.resumed()

    def left_over(self, event_id: int) -> list[ac.AnyAction]:
        """The actions beyond the history, whose next event would be `event_id`.

        Raises:
            errors.ReplayError: there are such actions, although the run was not suspended.
        """
        if self._streams is not None:
            self._streams.end()
        if not self.is_suspended:
            left = next((action for action in self._wanted if not self._is_void(action)), None)
            if left is not None:
                self._diverged(event_id, None, left)
        return list(self._wanted)

    def _follow(self, event: Any) -> None:
        """Remember an event that opens or closes something that can be cancelled."""
        kind: type[ev.Event] = event.__class__
        if kind in OPENS:
            self._open.add((kind, event.number))
        elif (opened_by := CLOSES.get(kind)) is not None:
            self._open.discard((opened_by, event.number))

    def _drop_void(self) -> None:
        while self._wanted and self._is_void(self._wanted[0]):
            self._wanted.popleft()

    def _is_void(self, action: ac.AnyAction) -> bool:
        """Whether the action cancels something that ended before the cancellation could be
        recorded; this occurs only in a run that was suspended.
        """
        kind: type[ac.Action] = type(action)
        opened_by = CANCELS.get(kind)
        return opened_by is not None and (opened_by, cast("Any", action).number) not in self._open

    def _diverged(self, event_id: int, expected: ev.AnyEvent | None, found: ac.AnyAction | None) -> None:
        found_words = "did nothing more" if found is None else f"wanted: {in_words(found)}"
        expected_words = _expected_in_words(expected)
        raise errors.ReplayError(self._run_id, event_id, expected_words, found_words, self._place())


def _expected_in_words(event: Any) -> str:
    if event is None:
        return "nothing more"
    return in_words(event) if type(event) in RECORDED_AS else type(event).__name__
