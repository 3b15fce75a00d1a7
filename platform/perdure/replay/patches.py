"""Patches: changes of the code that apply to a run for its whole life, or never."""

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
        """Add a patch that the history holds: it applies from the first line of the code on."""
        self._asked[event.id] = True

    def is_applied(self, id: str) -> bool:
        """Whether the run takes the new branch; the first answer is kept for the life of the run.

        During a replay, a patch that the history lacks is not applied: the run passed this place
        before the patch existed. A query or a view gets false and decides nothing.
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
        """The patches whose old branch the run takes."""
        return frozenset(each for each, is_applied in self._asked.items() if not is_applied)
