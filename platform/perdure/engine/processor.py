"""The engine's loop: one batch after the other, by the contract in `ports.py`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from perdure import errors, tracing
from perdure.codec.records import encode_event_record, hash_of
from perdure.engine.active import ActiveRun, ActiveRuns, record_of
from perdure.engine.counts import Counts, Doing, Pulse
from perdure.engine.failure_log import FailureLog
from perdure.engine.handling import Handler
from perdure.engine.leases import Leases
from perdure.engine.outbox import BatchOutbox
from perdure.engine.ports import Batch
from perdure.engine.report import Report, to_stderr
from perdure.engine.review import BATCHES, PAUSE_S, Reviewer
from perdure.engine.timers import TimerQueue, command_of
from perdure.engine.traced import handle_traced
from perdure.engine.waiters import Waiters
from perdure.model import commands as cm
from perdure.model.replies import AnyReply, Refused

if TYPE_CHECKING:
    from perdure.engine.ports import Clock, Ids, Log, Steps, Store
    from perdure.model.events import EventRecord
    from perdure.model.payloads import Payloads
    from perdure.workflow import Definition


@dataclass(frozen=True, slots=True)
class Settings:
    """What may be tuned.

    Attributes:
        batch_limit: commands in one transaction.
        join_s: how long a batch is held open for steps that have just been started, seconds.
        cached_runs: runs kept in memory between batches.
        retry_s: the pause after a commit that was aborted, seconds.
        block_limit_s: code that runs longer without giving way is interrupted, seconds; 0: never.
    """

    batch_limit: int = 1_000
    join_s: float = 0.003
    cached_runs: int = 20_000
    retry_s: float = 0.2
    block_limit_s: float = 2.0


DEFAULTS: Final = Settings()
IDLE_S: Final = 60.0
"""The longest wait for a command; nothing depends on it."""


class Engine:
    """The stream processor of one log.

    Not thread-safe: one thread opens it, runs it and closes it.

    Args:
        log: commands in, batches out.
        store: the materialised state.
        clock: the time of day.
        ids: fresh ids.
        steps: where local activities run.
        definitions: workflow types by name.
        payloads: for the code.
        settings: what may be tuned.
        report: told in words what an operator should know; by default on standard error.
        encode: an event record as the log writes it.
    """

    def __init__(
        self,
        log: Log,
        store: Store,
        clock: Clock,
        ids: Ids,
        steps: Steps,
        definitions: Mapping[str, Definition],
        payloads: Payloads,
        settings: Settings = DEFAULTS,
        report: Report | None = None,
        encode: Callable[[EventRecord], bytes] = encode_event_record,
    ) -> None:
        self._log = log
        self._store = store
        self._clock = clock
        self._encode = encode
        self._settings = settings
        self._report = report or to_stderr
        self._outbox = BatchOutbox(steps)
        self._failure_log = FailureLog()
        self._runs = ActiveRuns(store, definitions, payloads, settings.cached_runs)
        self._reviewer = Reviewer(store, self._runs)
        self._timers = TimerQueue(store)
        self._leases = Leases()
        self._waiters = Waiters()
        self._touched: dict[str, ActiveRun] = {}
        self._own: deque[cm.AnyCommand] = deque()
        self._taken_own: list[cm.AnyCommand] = []
        self._farewells: list[tuple[str, AnyReply]] = []
        self._poisoned: set[cm.AnyCommand] = set()
        self._handling: cm.AnyCommand | None = None
        self._last: cm.AnyCommand | None = None
        self._is_flushing = False
        self._singly = 0
        self._expired: list[cm.ExpireLease] = []
        self._last_at = 0
        self._owned: set[int] = set()
        self._has_open_batch = False
        self.counts = Counts()
        self.pulse = Pulse()
        self._handled = 0
        self._handler = Handler(
            self._runs, self._outbox, self._leases, self._waiters, self._touched, ids, definitions, payloads, self._report
        )
        self.batches = 0

    @property
    def leased(self) -> int:
        """How many attempts are leased."""
        return len(self._leases)

    @property
    def runs(self) -> ActiveRuns:
        """The cached runs."""
        return self._runs

    def open(self) -> None:
        """Take ownership of the log, bring the store to where it is, and take up what a crash left.

        Raises:
            errors.InfrastructureError: the message says what to do.
        """
        self.pulse.turn(Doing.OPENING)
        self._store.open()
        self._log.open(self)
        self.pulse.turn(Doing.TAKING, IDLE_S)

    def close(self) -> None:
        """Forget the runs and give up ownership."""
        self.pulse.turn(Doing.CLOSED)
        self._farewells += self._waiters.send_away(lambda _: True)
        if self._farewells and self._owned and not self._has_open_batch:
            with suppress(errors.InfrastructureError):  # then they ask again by themselves, a little later
                self._log.commit(Batch(self._last_at, replies=self._farewells))
        self._runs.clear()
        self._store.close()
        self._log.close()

    def run_batch(self, timeout_s: float = IDLE_S) -> bool:
        """Do one batch.

        Args:
            timeout_s: how long to wait for something to do, seconds.

        Returns:
            Whether there was something to do.

        Raises:
            errors.InfrastructureError: the log cannot be used any more; the message says what to do.
        """
        pulse = self.pulse
        pulse.turn(Doing.TAKING, timeout_s)
        try:
            commands = self._take(timeout_s)
            at = self._last_at = max(self._clock.now(), self._last_at)
            commands = self._one_of(commands, at) if self._singly else commands + self._due(at)
            if not commands and not self._farewells:
                pulse.trouble = ""  # what was aborted is no longer ours to do
                return self._review()
            self._has_open_batch = True
            pulse.turn(Doing.HANDLING)
            self._handled = 0
            self._is_flushing = False
            self._outbox.begin(at)
            self._outbox.batch.replies += self._farewells
            self._handler.begin(at)
            self._handle(commands)
            self._join_steps()
            self._is_flushing = True
            self._flush()
            self._is_flushing = False
            handling_us = pulse.turn(Doing.COMMITTING)
            self._log.commit(self._outbox.batch)
        except errors.CommitAborted as error:
            self._abort(f"{error}; nothing is lost, trying again")
            self._log.take(0, self._settings.retry_s)
            return True
        except errors.InfrastructureError:
            self._abort("")
            raise
        except Exception as error:  # noqa: BLE001 - a bug of ours must not stop the others
            self._poison(error)
            return True
        self.counts.committed(self._outbox.batch, self._handled, handling_us, pulse.turn(Doing.HANDLING))
        pulse.trouble = ""
        self._committed()
        if self.batches % BATCHES == 0:
            self._review()
        return True

    def _review(self) -> bool:
        """Replay one of the open runs that this process has not replayed yet; whether there was one."""
        if self._reviewer.is_done:
            return False
        broken = self._reviewer.look()
        if broken is not None:
            self._own.append(cm.ResumeWorkflow(*broken))
        return True

    # ---- ports.Owner

    @property
    def has_open_batch(self) -> bool:
        """Whether what was taken is being handled."""
        return self._has_open_batch

    def partitions_gained(self, partitions: Collection[int]) -> None:
        """Take up what is there: timers, suspended runs, steps that had not ended, attempts whose worker may have died meanwhile."""
        self._owned |= set(partitions)
        self._last_at = max(self._last_at, self._store.latest_at())
        self._timers.load()
        self._reviewer.add(partitions)
        self._resume(partitions)
        self._outbox.begin(self._last_at)
        now = max(self._clock.now(), self._last_at)
        for task in self._store.tasks(partitions):
            if task.queue:
                self._leases.expect(task, now)
            else:
                self._outbox.dispatch(task)
        self._outbox.start_steps()

    def partitions_lost(self, partitions: Collection[int]) -> None:
        """Forget the runs that lie there."""
        self._owned -= set(partitions)
        self._reviewer.remove(partitions)

        def is_gone(workflow_id: str) -> bool:
            return self._log.input_of(workflow_id)[0] in partitions

        self._runs.drop_where(is_gone)
        self._farewells += self._waiters.send_away(is_gone)
        self._own.clear()
        self._resume(self._owned)
        self._timers.load()

    def _resume(self, partitions: Collection[int]) -> None:
        for workflow_id, run_id in self._store.suspended(partitions):
            self._own.append(cm.ResumeWorkflow(workflow_id, run_id))

    def next_timer_at(self) -> int | None:
        """When the next timer fires, microseconds; None when there is none. May be the time of one that was cancelled."""
        return self._timers.next_at()

    # ---- 1. take

    def _take(self, timeout_s: float) -> list[cm.AnyCommand]:
        if self._own:
            return self._take_own()
        wait_us = timeout_s * 1e6 if self._reviewer.is_done else min(timeout_s, PAUSE_S) * 1e6
        now = self._clock.now()
        for at in (self._timers.next_at(), self._leases.next_at()):
            if at is not None:
                wait_us = min(wait_us, max(0, at - max(now, self._last_at)))
        return self._log.take(1 if self._singly else self._settings.batch_limit, wait_us / 1e6)

    def _take_own(self) -> list[cm.AnyCommand]:
        count = 1 if self._singly else len(self._own)
        self._taken_own = [self._own.popleft() for _ in range(min(count, len(self._own)))]
        return list(self._taken_own)

    def _one_of(self, commands: list[cm.AnyCommand], at: int) -> list[cm.AnyCommand]:
        """After a batch that could not be written: the next command alone, to find the one that does it."""
        self._singly -= 1
        if commands:
            return commands
        self._own.extend(self._due(at))
        return self._take_own()

    def _due(self, at: int) -> list[cm.AnyCommand]:
        due: list[cm.AnyCommand] = []
        for timer in self._timers.due(at):
            due.append(command_of(timer))
            self.counts.lateness_us.add(at - timer.fires_at)
        self._expired = self._leases.expired(at)
        return [*due, *self._expired]

    # ---- 3. decide and evolve

    def _handle(self, commands: list[cm.AnyCommand]) -> None:
        handle = self._handler.handle if tracing.installed is None else partial(handle_traced, tracing.installed, self._handler)
        self._handled += len(commands)
        self.counts.took(commands)
        for command in commands:
            if self._poisoned and command in self._poisoned:
                self._refuse_poisoned(command)
                continue
            self._handling = self._last = command
            handle(command)
        self._handling = None

    def _join_steps(self) -> None:
        """Let the steps that end soon join the batch, and what else comes in meanwhile."""
        outbox = self._outbox
        outbox.start_steps()
        if not outbox.awaited or self._singly:
            return
        limit = self._settings.batch_limit * 4
        until = perf_counter() + self._settings.join_s
        has_any_ended = False
        while outbox.awaited and limit > 0 and (left_s := until - perf_counter()) > 0:
            commands = self._log.take(self._settings.batch_limit, left_s)
            if not commands:
                break
            limit -= len(commands)
            self._handle(commands)
            has_any_ended = True
            outbox.start_steps()
        if outbox.awaited and not has_any_ended:
            outbox.note_slow()

    def _flush(self) -> None:
        """Close the records of the runs that were touched."""
        batch = self._outbox.batch
        for active in self._touched.values():
            self._handler.refresh_view(active)
        for active in self._touched.values():
            if not active.events:
                continue
            state = active.state
            state.input_partition, state.input_offset = self._log.input_of(state.workflow_id)
            record = record_of(active, state.last_hash)
            encoded = self._encode(record)
            state.last_hash = hash_of(encoded)
            batch.events.append((record, encoded))
            public = state.public(active.view, active.view_fault)
            if _differs(active.public, public):
                batch.states[state.workflow_id] = active.public = public
            if state.phase.is_closed:
                self._waiters.answer(state, self._outbox)

    # ---- 5. committed, 6. aborted

    def _committed(self) -> None:
        self._has_open_batch = False
        batch = self._outbox.batch
        self._store.apply(batch)
        self._timers.disarm(batch.timers_ended)
        self._timers.arm(batch.timers)
        for active in self._touched.values():
            active.events = []
            if active.state.phase.is_closed:
                self._waiters.forget(active.state.run_id)
                self._runs.drop_if(active)
        self._touched.clear()
        self._poisoned.clear()
        self._taken_own.clear()
        self._farewells.clear()
        if self._outbox.failures:
            self._failure_log.write(self._outbox.failures)
        self._runs.trim()
        self.batches += 1

    def _abort(self, message: str, **where: str) -> None:
        self._has_open_batch = False
        self.counts.aborted += 1
        if message:
            self.pulse.trouble = message
            self._report(message, **where)
        for active in self._touched.values():
            self._runs.drop_if(active)
        self._touched.clear()
        self._log.abort()
        self._timers.load()
        self._own.extend([*self._taken_own, *self._expired])
        self._taken_own.clear()

    def _poison(self, error: Exception) -> None:
        """Do the batch again without the command that we cannot handle."""
        command = self._handling
        if command is None and self._is_flushing:
            if self._handled > 1:
                self._singly = 2 * self._handled
                self._abort(f"a batch cannot be written: {type(error).__name__}: {error}; its commands are tried one by one")
                return
            command = self._last
        if command is None:
            self._abort("")
            raise error
        message = f"a bug in perdure, please report it: {type(error).__name__}: {error}, while handling {command!r:.500}"
        self._abort(message, workflow_id=command.workflow_id, run_id=command.run_id)
        self._poisoned.add(command)
        self.counts.poisoned += 1

    def _refuse_poisoned(self, command: cm.AnyCommand) -> None:
        if isinstance(command, cm.Request):
            message = f"{type(command).__name__} cannot be handled because of a bug in perdure; the engine's log has the details"
            self._outbox.reply(command.reply_to, Refused(command.request_id, "bad_input", message))


def _differs(before: Any, now: Any) -> bool:
    """Whether the public must be told: times, lengths and coordinates alone do not count."""
    return (
        before is None
        or before.status is not now.status
        or before.view != now.view
        or before.waits != now.waits
        or before.run_id != now.run_id
        or before.reason != now.reason
    )
