"""The life of a partition in the hands of one group member.

    ASSIGNED ──handed over──> RESTORING ──restored──> RESTORED ──resumed──> LIVE ──revoked──> REVOKED
        └──────────────────────────────resumed──────────────────────────────┘ │
        └────────────────held──────────────> HELD <──────held / resumed───────┘

Only an engine restores: its store has to be where the events are before it may decide about commands, and RESTORED ends with the
claim, a transaction. Other consumers go from ASSIGNED to LIVE once they know where to begin. Every state but LIVE is paused at the
client, and every state can end by a revocation. Nothing leads out of REVOKED: a partition that comes back is another assignment,
with a generation of its own, so that what a side thread did for the one before is recognised as stale.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class PartitionState(Enum):
    """Of one assignment of a partition."""

    ASSIGNED = auto()
    """Ours and paused: where to begin is not known yet."""
    RESTORING = auto()
    """The takeover's thread brings the store to where the events are."""
    RESTORED = auto()
    """The store is there; the claim is not committed."""
    LIVE = auto()
    """Records are taken."""
    HELD = auto()
    """Ours and paused for a while."""
    REVOKED = auto()
    """Another member's, or nobody's."""


class PartitionEvent(Enum):
    """What happens to an assignment."""

    HANDED_OVER = auto()
    """To the takeover's thread."""
    RESTORED = auto()
    """The takeover's thread has brought the store to where the events are."""
    RESUMED = auto()
    """The client fetches its records from now on."""
    HELD = auto()
    """The client fetches no more of it until it is resumed."""
    REWOUND = auto()
    """It has to be said again where to begin."""
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
"""Another event is a mistake of ours, and a KeyError that names it."""
