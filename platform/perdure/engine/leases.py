"""Leases: attempts that have run for longer than two seconds and must be heard of.

Soft state: it is not recorded. After a restart the worker's next heartbeat leases the attempt again; and in case the worker died
meanwhile, every attempt that is out is expected to be heard of, or not to have started, some leases later.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from perdure.model.commands import ExpireLease, HeartbeatActivity, StartActivity

if TYPE_CHECKING:
    from perdure.model.tasks import Task

LEASE_US: Final = 10_000_000
"""Workers beat three times a lease."""


EXPECTED_US: Final = 3 * LEASE_US
"""For the first heartbeat after a restart: workers may take a while to reach the new engine."""
AT_ONCE: Final = 1_000
"""So many may expire in one look, a second: after a restart there may be as many as tasks wait."""


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

    def expect(self, task: Task, at: int) -> None:
        """An attempt is out, and may have been leased by the engine before. To expire it changes nothing if it has not started."""
        self._leases.setdefault(task.token, _Lease(at + EXPECTED_US, task.workflow_id, task.run_id, task.number))

    def next_at(self) -> int | None:
        """When to look again, microseconds; None when nothing is leased."""
        return max(self._next_look_at, min(lease.expires_at for lease in self._leases.values())) if self._leases else None

    def expired(self, at: int) -> list[ExpireLease]:
        """Forget those that nothing was heard of; at most one look a second, for there may be many."""
        if not self._leases or at < self._next_look_at:
            return []
        self._next_look_at = at + 1_000_000
        dead = list(islice((token for token, lease in self._leases.items() if lease.expires_at <= at), AT_ONCE))
        commands: list[ExpireLease] = []
        for token in dead:
            lease = self._leases.pop(token)
            commands.append(ExpireLease(lease.workflow_id, lease.run_id, number=lease.number, token=token))
        return commands

    def end(self, token: str) -> None:
        """The attempt has reported."""
        self._leases.pop(token, None)
