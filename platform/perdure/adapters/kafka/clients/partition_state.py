"""The life of a partition in the hands of one group member.

    ASSIGNED ──handed over──> RESTORING ──restored──> RESTORED ──resumed──> LIVE ──revoked──>
    REVOKED
        └──────────────────────────────resumed──────────────────────────────┘ │
        └────────────────held──────────────> HELD <──────held / resumed───────┘

Only an engine restores: its store has to be where the events are before it may decide about
commands, and RESTORED ends with the claim, a transaction. Other consumers go from ASSIGNED to LIVE
once they know where to begin. Every state but LIVE is paused at the client, and every state can end
by a revocation. Nothing leads out of REVOKED: a partition that comes back is another assignment,
with a generation of its own, so that what a side thread did for the one before is recognised as
stale.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeAlias

Place: TypeAlias = tuple[str, int]
"""A topic and a partition."""


class PartitionState(Enum):
    """Of one assignment of a partition."""

    ASSIGNED = auto()
    """Owned and paused: the first offset is not known yet."""
    RESTORING = auto()
    """The takeover's thread brings the store to where the events are."""
    RESTORED = auto()
    """The store is there; the claim is not committed."""
    LIVE = auto()
    """Records are taken."""
    HELD = auto()
    """Ours and paused for a while."""
    REVOKED = auto()
    """Owned by another member, or by none."""


class PartitionEvent(Enum):
    """Event in the life of an assignment."""

    HANDED_OVER = auto()
    """To the takeover's thread."""
    RESTORED = auto()
    """The takeover's thread has brought the store to where the events are."""
    RESUMED = auto()
    """The client fetches its records from now on."""
    HELD = auto()
    """The client fetches no more of it until it is resumed."""
    REWOUND = auto()
    """The owner must give the first offset again."""
    REVOKED = auto()
    """The group gave it to another member, or the consumer was closed."""


_S = PartitionState
_E = PartitionEvent

TRANSITIONS: Final[dict[tuple[PartitionState, PartitionEvent], PartitionState]] = {
    (_S.ASSIGNED, _E.HANDED_OVER): _S.RESTORING,
    (_S.ASSIGNED, _E.RESUMED): _S.LIVE,
    (_S.ASSIGNED, _E.HELD): _S.HELD,
    (_S.ASSIGNED, _E.REVOKED): _S.REVOKED,
    (_S.RESTORING, _E.RESTORED): _S.RESTORED,
    (_S.RESTORING, _E.REVOKED): _S.REVOKED,
    (_S.RESTORED, _E.RESUMED): _S.LIVE,
    (_S.RESTORED, _E.REVOKED): _S.REVOKED,
    (_S.LIVE, _E.HELD): _S.HELD,
    (_S.LIVE, _E.REWOUND): _S.ASSIGNED,
    (_S.LIVE, _E.REVOKED): _S.REVOKED,
    (_S.HELD, _E.RESUMED): _S.LIVE,
    (_S.HELD, _E.REVOKED): _S.REVOKED,
}
"""Any other event is a bug, and raises a KeyError that names it."""


@dataclass(slots=True)
class Assignment:
    """A partition, from its assignment to this member to its revocation.

    Attributes:
        place: topic and partition.
        generation: counts the assignments of this member. What was done for another generation is
            stale.
        state: its current state.
    """

    place: Place
    generation: int
    state: PartitionState = PartitionState.ASSIGNED


Noted = Callable[[list[Assignment]], None]


class Assignments:
    """The partitions of one member, each in its state. For one thread.

    Attributes:
        live: the partitions that are read. One set for as long as this lives; do not change it.
        assigned: those whose owner has to say where they begin. Likewise.
    """

    def __init__(self) -> None:
        self._by_place: dict[Place, Assignment] = {}
        self._by_state: dict[PartitionState, set[Place]] = {state: set() for state in PartitionState}
        self.live: Collection[Place] = self._by_state[PartitionState.LIVE]
        self.assigned: Collection[Place] = self._by_state[PartitionState.ASSIGNED]
        self._generation = 0

    @property
    def owned(self) -> Collection[Place]:
        """The owned partitions, in any state."""
        return self._by_place.keys()

    def state_of(self, place: Place) -> PartitionState:
        """State of a partition; REVOKED when it is not ours."""
        found = self._by_place.get(place)
        return found.state if found is not None else PartitionState.REVOKED

    def generation_of(self, place: Place) -> int:
        """Which assignment of ours the present one is; 0 when the partition is not ours."""
        found = self._by_place.get(place)
        return found.generation if found is not None else 0

    def in_state(self, state: PartitionState) -> list[Place]:
        """The partitions in a state, in order."""
        return sorted(self._by_state[state])

    def add(self, place: Place) -> Assignment:
        """Add a partition that the group has assigned to this member."""
        self._generation += 1
        added = self._by_place[place] = Assignment(place, self._generation)
        self._by_state[added.state].add(place)
        return added

    def note(self, place: Place, event: PartitionEvent) -> None:
        """Apply an event to an owned partition.

        Raises:
            KeyError: the partition is not owned, or the event is impossible in its state.
        """
        assignment = self._by_place[place]
        following = TRANSITIONS[assignment.state, event]
        self._by_state[assignment.state].discard(place)
        self._by_state[following].add(place)
        assignment.state = following

    def end(self, places: Collection[Place], noted: Noted) -> None:
        """Remove revoked partitions; those that were not owned are ignored.

        Args:
            places: the partitions.
            noted: called with their assignments, in the states that they leave, while they are
                still ours.
        """
        ended = [self._by_place[place] for place in places if place in self._by_place]
        if not ended:
            return
        noted(ended)
        for each in ended:
            self.note(each.place, PartitionEvent.REVOKED)
            self._by_state[PartitionState.REVOKED].discard(each.place)
            del self._by_place[each.place]
