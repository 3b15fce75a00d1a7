"""Leases: attempts that have run for longer than two seconds and must be heard of.

Soft state: it is not recorded. After a restart the worker's next heartbeat leases the attempt again.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from perdure.model.commands import ExpireLease, HeartbeatActivity, StartActivity

LEASE_US: Final = 10_000_000
"""Workers beat three times a lease."""


class _Lease(NamedTuple):
    expires_at: int
    workflow_id: str
    run_id: str
    number: int


class Leases:
    """The leased attempts, by token."""

    __slots__ = ("_leases", "_next_look_at")

    def __init__(self) -> None:
        self._leases: dict[str, _Lease] = {}
        self._next_look_at = 0

    def __len__(self) -> int:
        """How many there are."""
        return len(self._leases)

    def renew(self, command: StartActivity | HeartbeatActivity, run_id: str, at: int) -> None:
        """The attempt was heard of."""
        self._leases[command.token] = _Lease(at + LEASE_US, command.workflow_id, run_id, command.number)

    def next_at(self) -> int | None:
        """When to look again, microseconds; None when nothing is leased."""
        return max(self._next_look_at, min(lease.expires_at for lease in self._leases.values())) if self._leases else None

    def expired(self, at: int) -> list[ExpireLease]:
        """Forget those that nothing was heard of; at most one look a second, for there may be many."""
        if not self._leases or at < self._next_look_at:
            return []
        self._next_look_at = at + 1_000_000
        dead = [token for token, lease in self._leases.items() if lease.expires_at <= at]
        commands: list[ExpireLease] = []
        for token in dead:
            lease = self._leases.pop(token)
            commands.append(ExpireLease(lease.workflow_id, lease.run_id, number=lease.number, token=token))
        return commands

    def end(self, token: str) -> None:
        """The attempt has reported."""
        self._leases.pop(token, None)
