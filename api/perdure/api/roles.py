"""What somebody may do over HTTP: three roles, each with all that the one before may."""

from __future__ import annotations

from enum import Enum
from functools import total_ordering


@total_ordering
class Role(Enum):
    """reader < operator < admin."""

    READER = "reader"
    """May look at everything of the namespace, and query runs."""
    OPERATOR = "operator"
    """May also start, signal, cancel and terminate workflows."""
    ADMIN = "admin"
    """May also retry and drop dead letters, and read the audit log."""

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Role):
            return NotImplemented
        return _RANKS[self] < _RANKS[other]


_RANKS = {role: rank for rank, role in enumerate(Role)}
