"""Leases: attempts that have run for over two seconds and must send heartbeats.

Leases are not recorded. After a restart, the worker's next heartbeat leases the attempt again. In
case the worker died meanwhile, the engine expects a heartbeat of every dispatched attempt within
some leases; an attempt without one has not started, or has lost its worker.

Silence is measured by the monotonic clock: if the time of day jumps ahead, healthy workers must
keep their attempts.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final, NamedTuple

from perdure.model.commands import ExpireLease, HeartbeatActivity, StartActivity

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.model.tasks import Task

LEASE_US: Final = 10_000_000
"""The length of a lease; workers send three heartbeats per lease."""


EXPECTED_US: Final = 3 * LEASE_US
"""The time allowed for the first heartbeat after a restart: workers may need a while to reach the
new engine."""
AT_ONCE: Final = 1_000
"""The most leases that expire in one check, once a second: after a restart every waiting task may
have one."""


class _Lease(NamedTuple):
    expires_at: int
    workflow_id: str
    run_id: str
    number: int


class Leases:
    """The leased attempts, by token. All times are microseconds of `Clock.elapsed`.

    Args:
        is_measuring: whether silence is measured. False where time is skipped: started attempts are
            then not watched.

    A batch ends and expires leases. If it is aborted, `restore` puts them back; if it is committed,
    `settle` forgets them.
    """

    __slots__ = ("_heap", "_is_measuring", "_leases", "_next_look_at", "_removed")

    def __init__(self, *, is_measuring: bool = True) -> None:
        self._is_measuring = is_measuring
        self._leases: dict[str, _Lease] = {}
        # Every lease has an entry that is not later than its end. A renewed lease keeps its old
        # entry, which is moved when its time comes: a heartbeat costs no more than a look-up.
        self._heap: list[tuple[int, str]] = []
        self._removed: list[tuple[str, _Lease]] = []
        self._next_look_at = 0

    def __len__(self) -> int:
        """Number of leases."""
        return len(self._leases)

    def renew(self, command: StartActivity | HeartbeatActivity, run_id: str, now: int) -> None:
        """Renew the lease of an attempt."""
        if not self._is_measuring:
            self.end(command.token)
            return
        self._put(command.token, _Lease(now + LEASE_US, command.workflow_id, run_id, command.number))

    def expect(self, task: Task, now: int) -> None:
        """Expect a heartbeat of a dispatched attempt, which the previous engine may have leased. If
        the attempt has not started, the expiry changes nothing.
        """
        if task.token not in self._leases:
            self._put(task.token, _Lease(now + EXPECTED_US, task.workflow_id, task.run_id, task.number))

    def next_at(self) -> int | None:
        """When to check again, microseconds; None: nothing is leased."""
        heap, leases = self._heap, self._leases
        while heap:
            at, token = heap[0]
            lease = leases.get(token)
            if lease is not None and lease.expires_at == at:
                return max(self._next_look_at, at)
            heappop(heap)
            if lease is not None:
                heappush(heap, (lease.expires_at, token))
        return None

    def expired(self, now: int, limit: int = AT_ONCE) -> list[ExpireLease]:
        """Remove and return the expired leases; checks at most once a second, as there may be
        many.
        """
        if not self._leases or now < self._next_look_at:
            return []
        self._next_look_at = now + 1_000_000
        commands: list[ExpireLease] = []
        while len(commands) < limit and (at := self._first_end()) is not None and at <= now:
            token = heappop(self._heap)[1]
            lease = self._remove(token)
            commands.append(ExpireLease(lease.workflow_id, lease.run_id, number=lease.number, token=token))
        return commands

    def end(self, token: str) -> None:
        """End the lease of an attempt that has reported."""
        if token in self._leases:
            self._remove(token)

    def settle(self) -> None:
        """The batch is committed: forget the leases that it ended or let expire."""
        self._removed.clear()

    def restore(self) -> None:
        """After an aborted batch: restore the leases that it ended or let expire, and check them
        immediately.
        """
        if self._removed:
            self._next_look_at = 0
            self._leases.update(self._removed)
            self._removed.clear()
            self._rebuild()

    def drop_where(self, is_gone: Callable[[str], bool]) -> None:
        """Drop the leases of these workflow ids; the new owner of their partitions leases the
        attempts again.
        """
        self._leases = {
            token: lease for token, lease in self._leases.items() if not is_gone(lease.workflow_id)
        }
        self._rebuild()

    def _rebuild(self) -> None:
        self._heap = [(lease.expires_at, token) for token, lease in self._leases.items()]
        heapify(self._heap)

    def _put(self, token: str, lease: _Lease) -> None:
        known = self._leases.get(token)
        self._leases[token] = lease
        if known is None or lease.expires_at < known.expires_at:
            heappush(self._heap, (lease.expires_at, token))

    def _remove(self, token: str) -> _Lease:
        lease = self._leases.pop(token)
        self._removed.append((token, lease))
        return lease

    def _first_end(self) -> int | None:
        self.next_at()  # removes entries that are out of date
        return self._heap[0][0] if self._heap else None
