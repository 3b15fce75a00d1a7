"""Runs that are suspended for a value which cannot be read now: a key or an object is missing. They
are tried again, with a pause that grows, until it is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from perdure.model.commands import ResumeWorkflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.engine.ports import Clock

FIRST_US: Final = 1_000_000
LONGEST_US: Final = 60_000_000
"""The first and the longest pause between two attempts to bring a run back."""
AT_ONCE: Final = 16
"""Runs that are tried in one batch, for each is replayed."""


class Unavailable:
    """The runs of one engine, in its memory only: an engine that starts tries all of them.

    Args:
        clock: measures the pauses.
    """

    __slots__ = ("_clock", "_pauses", "_taken", "_waiting")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[tuple[str, str], int] = {}
        self._pauses: dict[tuple[str, str], int] = {}
        self._taken: list[tuple[str, str]] = []

    def add(self, workflow_id: str, run_id: str) -> None:
        """Try this run again later."""
        key = workflow_id, run_id
        pause = self._pauses.get(key, FIRST_US)
        self._pauses[key] = min(2 * pause, LONGEST_US)
        self._waiting[key] = self._clock.elapsed() + pause

    def next_at(self) -> int | None:
        """When the next one is tried, microseconds; None: there is none."""
        return min(self._waiting.values(), default=None)

    def due(self, now: int) -> list[ResumeWorkflow]:
        """Those that are to be tried now; each is added again if that fails."""
        if not self._waiting:
            return []
        found = [key for key, at in self._waiting.items() if at <= now][:AT_ONCE]
        if found:
            self._pauses = {key: self._pauses[key] for key in self._waiting}  # the others came back
        for key in found:
            del self._waiting[key]
        self._taken += found
        return [ResumeWorkflow(*key) for key in found]

    def settle(self) -> None:
        """The batch is committed."""
        self._taken.clear()

    def restore(self) -> None:
        """The batch was aborted: what it took is due again."""
        for key in self._taken:
            self._waiting[key] = 0
        self._taken.clear()

    def drop_where(self, is_gone: Callable[[str], bool]) -> None:
        """Forget the runs of these workflow ids."""
        self._waiting = {key: at for key, at in self._waiting.items() if not is_gone(key[0])}
