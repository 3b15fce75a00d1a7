"""The engine's loop: one batch after the other, following the contract in `ports.py`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from perdure.codec.records import encode_event_record
from perdure.engine.activation import Activation
from perdure.engine.active import ActiveRuns
from perdure.engine.batch_handler import BatchHandler
from perdure.engine.batch_log import BatchLog
from perdure.engine.batch_size import BatchSize
from perdure.engine.counts import Counts, LoopPhase, Pulse
from perdure.engine.handling import handler_of
from perdure.engine.hybrid_clock import HybridClock
from perdure.engine.operator_log import Report, to_stderr
from perdure.engine.outbox import BatchOutbox
from perdure.engine.ports import Batch
from perdure.engine.quarantine import Poison, Quarantine, Reaction
from perdure.engine.retention import RunRemover
from perdure.engine.review import BATCHES, Reviewer
from perdure.engine.sources import CommandSources
from perdure.engine.waiters import Waiters
from perdure.model.retention import KEEP, Retention

if TYPE_CHECKING:
    from perdure.engine.ports import Clock, Ids, Log, Steps, Store
    from perdure.interceptor import Interceptor
    from perdure.model.events import EventRecord
    from perdure.model.payloads import Payloads
    from perdure.model.replies import AnyReply
    from perdure.workflow import Definition


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the engine.

    Attributes:
        batch_limit: the most commands in one transaction.
        batch_s: the target time for the commands of one transaction, seconds: fewer are taken when
            they are slow. Infinite: always `batch_limit`.
        join_s: how long a batch waits for steps that it has just started, seconds.
        cached_runs: the most runs kept in memory between batches.
        retry_s: the pause after a commit that was aborted, seconds.
        retention: of workflow types and outcomes that do not say how long a closed run is kept.
        skips_time: the clock jumps to the next timer, as in tests, so leases are not measured.
        block_limit_s: workflow code that runs longer without yielding is interrupted, seconds; 0:
            never.
    """

    batch_limit: int = 1_000
    batch_s: float = 0.15
    join_s: float = 0.003
    cached_runs: int = 20_000
    retry_s: float = 0.2
    block_limit_s: float = 2.0
    skips_time: bool = False
    retention: Retention = KEEP


DEFAULTS: Final = Settings()
IDLE_S: Final = 60.0
"""The longest wait for a command; nothing depends on it."""


class Engine:
    """The stream processor of one log. One thread opens it, runs it and closes it.

    Args:
        log: hands out commands and commits batches.
        store: the materialised state.
        clock: the time of day, and a monotonic clock.
        ids: fresh ids.
        steps: runs local activities.
        definitions: workflow types by name.
        payloads: encodes and decodes the code's values.
        settings: tuning parameters.
        report: receives messages for the operator; by default on standard error.
        encode: encodes an event record as the log writes it.
        interceptors: around each command's handling, and around workflow code, outermost first.
    """

    def __init__(
        self,
        log: Log,
        store: Store,
        clock: Clock,
        *,
        ids: Ids,
        steps: Steps,
        definitions: Mapping[str, Definition],
        payloads: Payloads,
        settings: Settings = DEFAULTS,
        report: Report | None = None,
        encode: Callable[[EventRecord], bytes] = encode_event_record,
        interceptors: Sequence[Interceptor] = (),
    ) -> None:
        self._log, self._store, self._clock = log, store, clock
        self._settings = settings
        report = report or to_stderr
        self._time = HybridClock(clock, report)
        self._waiters = Waiters()
        self._outbox = BatchOutbox(steps, self._waiters)
        self._runs = ActiveRuns(
            store, definitions, payloads, ids=ids, capacity=settings.cached_runs, interceptors=interceptors
        )
        self._farewells: list[tuple[str, AnyReply]] = []
        self._quarantine = Quarantine()
        self._owned: set[int] = set()
        self._has_open_batch = False
        self.counts, self.pulse = Counts(), Pulse()
        self._batch_log = BatchLog(report, self.counts)
        self._sources = CommandSources(
            log,
            store,
            clock,
            time=self._time,
            quarantine=self._quarantine,
            reviewer=Reviewer(store, self._runs),
            size=BatchSize(settings.batch_limit, settings.batch_s),
            lateness_us=self.counts.lateness_us,
            is_measuring=not settings.skips_time,
            remover=RunRemover(store, definitions, settings.retention, runs=self._runs, counts=self.counts),
        )
        self._activation = Activation(
            self._runs,
            self._outbox,
            ids,
            quarantine=self._quarantine,
            can_answer=log.can_answer,
            report=report,
            wait=self._sources.unavailable.add,
        )
        self._batch_handler = BatchHandler(
            self._activation,
            handler_of(self._activation, self._sources, self._waiters, clock, definitions),
            log,
            quarantine=self._quarantine,
            waiters=self._waiters,
            counts=self.counts,
            encode=encode,
            interceptors=interceptors,
        )
        self.batches = 0

    @property
    def leased(self) -> int:
        """Number of leased attempts."""
        return len(self._sources.leases)

    @property
    def clock_ahead_us(self) -> int:
        """Last stamp minus time of day, microseconds; negative: a jump is not followed."""
        return self._time.ahead_us

    @property
    def runs(self) -> ActiveRuns:
        """The cached runs."""
        return self._runs

    def open(self) -> None:
        """Take ownership of the log, bring the store up to date, and take over the work that a
        crash left.

        Raises:
            errors.InfrastructureError: the message says what to do.
        """
        self.pulse.turn(LoopPhase.OPENING)
        self._store.open()
        self._log.open(self)
        self.pulse.turn(LoopPhase.TAKING, IDLE_S)

    def close(self) -> None:
        """Drop the runs and give up ownership."""
        self.pulse.turn(LoopPhase.CLOSED)
        self._farewells += self._waiters.release(lambda _: True)
        if self._farewells and self._owned and not self._has_open_batch:
            with suppress(Exception):  # then they ask again by themselves, a little later
                self._log.commit(Batch(self._time.last, replies=self._farewells))
        self._runs.clear()
        self._store.close()
        self._log.close()

    def run_batch(self, timeout_s: float = IDLE_S) -> bool:
        """Run one batch.

        Args:
            timeout_s: how long to wait for something to do, seconds.

        Returns:
            Whether there was something to do.

        Raises:
            errors.InfrastructureError: the log is unusable; the message says what to do.
        """
        pulse, quarantine, outbox = self.pulse, self._quarantine, self._outbox
        pulse.turn(LoopPhase.TAKING, timeout_s)
        quarantine.take()
        try:
            commands = self._sources.take(timeout_s)
            at = self._time.now()
            commands = self._sources.with_due(commands, at)
            if not commands and not self._farewells and not self._sources.remover.look(at):
                pulse.trouble = ""  # what was aborted is no longer ours to do
                return self._sources.review()
            self._has_open_batch = True
            pulse.turn(LoopPhase.HANDLING)
            outbox.begin(at)
            outbox.batch.replies += self._farewells
            self._activation.begin(at)
            self._batch_handler.handle(commands)
            self._batch_handler.join_steps(self._sources.size.limit, self._settings.join_s)
            quarantine.write()
            self._batch_handler.close_records()
            self._sources.remover.fill(outbox.batch, is_idle=not commands)
            handling_us = pulse.turn(LoopPhase.COMMITTING)
            self._log.commit(outbox.batch)
        except Exception as error:
            if not self._goes_on_after(error):
                raise
            return True
        self._sources.size.took(quarantine.handled, handling_us)
        self.counts.committed(outbox.batch, quarantine.handled, handling_us, pulse.turn(LoopPhase.HANDLING))
        pulse.trouble = ""
        self._committed()
        if self.batches % BATCHES == 0:
            self._sources.review()
        return True

    # ---- ports.Owner

    @property
    def has_open_batch(self) -> bool:
        """Whether taken commands are being handled."""
        return self._has_open_batch

    def partitions_gained(self, partitions: Collection[int]) -> None:
        """Load the timers, suspended runs and unfinished steps of the new partitions, and start
        watching attempts whose worker may have died.
        """
        self._owned |= set(partitions)
        self._time.raise_to(self._store.latest_at())
        self._sources.load(partitions)
        self._outbox.begin(self._time.last)
        now = self._clock.elapsed()
        for task in self._store.tasks(partitions):
            if task.queue:
                self._sources.leases.expect(task, now)
            elif not self._activation.inline.regain(task, self._sources.resume):
                self._outbox.dispatch(task)
        self._outbox.start_steps()

    def partitions_lost(self, partitions: Collection[int]) -> None:
        """Forget everything of these partitions, and nothing else: commands that an aborted batch
        has put back for other partitions are still to be handled.
        """
        self._owned -= set(partitions)

        def is_gone(workflow_id: str) -> bool:
            return self._log.input_of(workflow_id)[0] in partitions

        self._activation.drop_where(is_gone)
        self._farewells += self._waiters.release(is_gone)
        self._sources.drop(partitions, is_gone)
        self._quarantine.drop_where(is_gone)

    def next_timer_at(self) -> int | None:
        """When the next timer fires, perhaps a cancelled one, microseconds; None: never."""
        return self._sources.next_timer_at()

    # ---- 5. committed, 6. aborted

    def _committed(self) -> None:
        self._has_open_batch = False
        batch = self._outbox.batch
        self._store.apply(batch)  # first: timers read their next page from it
        self._sources.settle(batch)
        self._activation.settle(self._waiters)
        self._waiters.settle()
        self._quarantine.settle()
        self._farewells.clear()
        self._runs.trim()
        self.batches += 1
        self._batch_log.committed(self._outbox)

    def _abort(self, message: str) -> None:
        self._has_open_batch = False
        self.counts.aborted += 1
        if message:
            self.pulse.trouble = message
        # Runs in memory hold events that were not recorded: their next use reads them again.
        self._activation.abort()
        self._log.abort()
        self._sources.abort()
        self._waiters.abort()
        self._quarantine.abort()

    def _goes_on_after(self, error: Exception) -> bool:
        """Abort the batch, and prepare the next one to avoid the error. False: the error must be
        raised.
        """
        has_extras = bool(self._farewells or self._sources.remover.has_filled)
        verdict = self._quarantine.blame(error, has_extras=has_extras)
        self._abort(self._batch_log.aborted(verdict, error))
        match verdict:
            case Reaction.RETRY:
                self._log.take(0, self._settings.retry_s)
            case Reaction.WITHOUT_EXTRAS:
                self._farewells.clear()
            case Poison(strikes=strikes):
                self.counts.poisoned += strikes == 1
            case _:
                pass
        return verdict is not Reaction.RAISE
