"""The sources of a batch's commands: the log, due timers and expired leases, and the engine itself,
which resumes suspended runs.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from perdure.core.registry import DUE
from perdure.engine.leases import AT_ONCE, Leases
from perdure.engine.review import PAUSE_S
from perdure.engine.timers import TimerQueue
from perdure.engine.unavailable import Unavailable
from perdure.model import commands as cm

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from perdure.engine.batch_size import BatchSize
    from perdure.engine.counts import Buckets
    from perdure.engine.hybrid_clock import HybridClock
    from perdure.engine.ports import Batch, Clock, Log, Store
    from perdure.engine.quarantine import Quarantine
    from perdure.engine.retention import RunRemover
    from perdure.engine.review import Reviewer


class CommandSources:
    """The sources of one engine. Commands of an aborted batch are handed out again; the log repeats
    its own.

    Args:
        log: commands from outside.
        store: has the timers and the suspended runs.
        clock: measures leases.
        time: the engine's time, which timers fire by.
        quarantine: says whether a batch may hold one command only.
        reviewer: has runs to replay while the engine is idle.
        size: the size of a batch.
        lateness_us: counts how late timers fired.
        is_measuring: see `Leases`.
        remover: removes closed runs.

    Attributes:
        leases: the leases of dispatched attempts.
        remover: removes closed runs.
        size: the size of a batch.
        unavailable: runs that wait for a key or an object.
    """

    __slots__ = (
        "_clock",
        "_lateness_us",
        "_log",
        "_own",
        "_quarantine",
        "_reviewer",
        "_store",
        "_taken_own",
        "_time",
        "_timers",
        "leases",
        "remover",
        "size",
        "unavailable",
    )

    def __init__(
        self,
        log: Log,
        store: Store,
        clock: Clock,
        *,
        time: HybridClock,
        quarantine: Quarantine,
        reviewer: Reviewer,
        size: BatchSize,
        lateness_us: Buckets,
        is_measuring: bool,
        remover: RunRemover,
    ) -> None:
        self._log = log
        self._store = store
        self._clock = clock
        self._time = time
        self._quarantine = quarantine
        self._reviewer = reviewer
        self.size = size
        self._lateness_us = lateness_us
        self.remover = remover
        self._timers = TimerQueue(store)
        self.leases = Leases(is_measuring=is_measuring)
        self.unavailable = Unavailable(clock)
        self._own: deque[cm.AnyCommand] = deque()
        self._taken_own: list[cm.AnyCommand] = []

    def load(self, partitions: Collection[int]) -> None:
        """Load the timers, and resume the suspended runs of these partitions."""
        self._timers.load()
        self._reviewer.add(partitions)
        for workflow_id, run_id in self._store.suspended(partitions):
            self._own.append(cm.ResumeWorkflow(workflow_id, run_id))

    def resume(self, workflow_id: str, run_id: str) -> None:
        """Have the code of a run replayed, in one of the next batches."""
        self._own.append(cm.ResumeWorkflow(workflow_id, run_id))

    def drop(self, partitions: Collection[int], is_gone: Callable[[str], bool]) -> None:
        """Forget everything of these partitions, and nothing else: commands that an aborted batch
        has put back for other partitions are still to be handled.

        Args:
            partitions: the lost partitions.
            is_gone: says of a workflow id whether it is in one of them.
        """
        self._reviewer.remove(partitions)
        self._own = deque(command for command in self._own if not is_gone(command.workflow_id))
        self.leases.drop_where(is_gone)
        self.unavailable.drop_where(is_gone)
        self._timers.load()

    def next_timer_at(self) -> int | None:
        """When the next timer fires, microseconds; it may be a cancelled one. None: never."""
        return self._timers.next_at()

    def take(self, timeout_s: float) -> list[cm.AnyCommand]:
        """The engine's own commands, and those of the log.

        Args:
            timeout_s: how long to wait for one, seconds; less if a timer or a lease ends before.
        """
        if self._own:
            if self._quarantine.is_one_by_one:
                return self._take_own(1)
            # There may be thousands after a start: commands from outside do not wait for all of
            # them. The log first, since it may take partitions away, with what is to be done there.
            commands = self._log.take(self.size.limit, 0)
            return self._take_own(self.size.limit) + commands
        wait_us = timeout_s * 1e6 if self._reviewer.is_done else min(timeout_s, PAUSE_S) * 1e6
        for at in (self._timers.next_at(), self.remover.next_at()):
            if at is not None:
                wait_us = min(wait_us, max(0, at - self._time.now()))
        for at in (self.leases.next_at(), self.unavailable.next_at()):
            if at is not None:
                wait_us = min(wait_us, max(0, at - self._clock.elapsed()))
        return self._log.take(1 if self._quarantine.is_one_by_one else self.size.limit, wait_us / 1e6)

    def with_due(self, commands: list[cm.AnyCommand], at: int) -> list[cm.AnyCommand]:
        """Add the timers and leases that are due at `at`.

        After a batch that could not be written, the next command stands alone, to find the one
        that fails it.
        """
        if self._quarantine.is_one_by_one:
            self._quarantine.count_down()
            return commands or self._due(at, 1)
        return commands + self._due(at, self.size.limit)

    def review(self) -> bool:
        """Replay one open run that this process has not replayed yet; return whether there was
        one.
        """
        if self._reviewer.is_done:
            return False
        broken = self._reviewer.look()
        if broken is not None:
            self._own.append(cm.ResumeWorkflow(*broken))
        return True

    def settle(self, batch: Batch) -> None:
        """The batch is committed: forget its timers and leases."""
        self._timers.disarm(batch.timers_ended)
        self._timers.arm(batch.timers)
        self.remover.settle()
        self.leases.settle()
        self.unavailable.settle()
        self._taken_own.clear()

    def abort(self) -> None:
        """The batch was aborted: hand out its commands again."""
        self._timers.load()
        self.remover.abort(self._time.last)
        self.leases.restore()
        self.unavailable.restore()
        self._own.extendleft(reversed(self._taken_own))
        self._taken_own.clear()

    def _take_own(self, limit: int) -> list[cm.AnyCommand]:
        self._taken_own = [self._own.popleft() for _ in range(min(limit, len(self._own)))]
        return list(self._taken_own)

    def _due(self, at: int, limit: int) -> list[cm.AnyCommand]:
        """Timers and leases; an aborted batch puts both back."""
        due: list[cm.AnyCommand] = []
        for timer in self._timers.due(at, limit):
            due.append(DUE[timer.kind](timer))
            self._lateness_us.add(at - timer.fires_at)
        if len(due) < limit:
            now = self._clock.elapsed()
            due += self.leases.expired(now, min(limit, AT_ONCE))
            if len(due) < limit:
                due += self.unavailable.due(now)
        return due
