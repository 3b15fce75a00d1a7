"""The four roles of the HTTP API; each includes the permissions of the one before."""

from __future__ import annotations

from enum import Enum
from functools import total_ordering


@total_ordering
class Role(Enum):
    """viewer < reader < operator < admin."""

    VIEWER = "viewer"
    """May see which workflows exist and their statuses, but no data: no view, result, argument,
    attribute, history or dead letter, nor the text of a failure or a reason."""
    READER = "reader"
    """May read everything in the namespace, and query runs."""
    OPERATOR = "operator"
    """May also start, signal, pause, cancel and terminate workflows, decide about their activities,
    and answer tokens."""
    ADMIN = "admin"
    """May also delete closed runs, retry and drop dead letters, and read the audit log."""

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Role):
            return NotImplemented
        return _RANKS[self] < _RANKS[other]


_RANKS = {role: rank for rank, role in enumerate(Role)}
