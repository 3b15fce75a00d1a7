"""Patches: changes of the code that a run has, or has not, for as long as it lives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.model.actions import ApplyPatch

if TYPE_CHECKING:
    from perdure.model import events as ev
    from perdure.replay.loop import RunLoop


class Patches:
    """The patches of one run.

    Args:
        loop: of the run.
    """

    __slots__ = ("_asked", "_loop")

    def __init__(self, loop: RunLoop) -> None:
        self._loop = loop
        self._asked: dict[str, bool] = {}

    def applied_before(self, event: ev.PatchApplied) -> None:
        """Take over one that the history has: the code has it from its first line on."""
        self._asked[event.id] = True

    def is_applied(self, id: str) -> bool:
        """Whether the run takes the new branch; the first answer holds for its whole life.

        A run that is replayed has passed the place before the patch was there. A query or a view
        decides nothing.
        """
        known = self._asked.get(id)
        if known is not None:
            return known
        loop = self._loop
        if loop.is_read_only or loop.is_evicted:
            return False
        self._asked[id] = is_new = not loop.replaying
        if is_new:
            loop.actions.items.append(ApplyPatch(id))
        return is_new

    @property
    def unpatched(self) -> frozenset[str]:
        """Those whose old branch the run takes."""
        return frozenset(each for each, is_applied in self._asked.items() if not is_applied)
