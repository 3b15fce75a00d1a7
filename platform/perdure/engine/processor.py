"""The engine's loop: one batch after the other, by the contract in `ports.py`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from perdure import errors, interceptor
from perdure.codec.records import encode_event_record, hash_of
from perdure.core.registry import DUE
from perdure.core.run import public_state
from perdure.engine.activation import Activation
from perdure.engine.active import ActiveRuns, record_of
from perdure.engine.counts import Counts, Doing, Pulse
from perdure.engine.failure_log import FailureLog
from perdure.engine.handling import handler_of
from perdure.engine.hybrid_clock import HybridClock
from perdure.engine.leases import AT_ONCE, Leases
from perdure.engine.operator_log import Report, Sparing, to_stderr
from perdure.engine.outbox import BatchOutbox, can_reply
from perdure.engine.ports import Batch, Spoilt
from perdure.engine.quarantine import BARE, Poison, Quarantine, Stage, Way
from perdure.engine.review import BATCHES, PAUSE_S, Reviewer
from perdure.engine.run_log import explain
from perdure.engine.timers import TimerQueue
from perdure.engine.waiters import Waiters
from perdure.model import commands as cm
from perdure.model.described import described
from perdure.model.replies import AnyReply, Refused

if TYPE_CHECKING:
    from perdure.engine.ports import Clock, Ids, Log, Steps, Store
    from perdure.interceptor import Interceptor
    from perdure.model.events import EventRecord
    from perdure.model.payloads import Payloads
    from perdure.workflow import Definition


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the engine.

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
        clock: the time of day, and a clock that nobody sets.
        ids: fresh ids.
        steps: where local activities run.
        definitions: workflow types by name.
        payloads: for the code.
        settings: what may be tuned.
        report: receives messages for the operator; by default on standard error.
        encode: an event record as the log writes it.
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
        self._interceptors = interceptors
        self._log = log
        self._store = store
        self._clock = clock
        self._encode, self._settings = encode, settings
        self._report = report or to_stderr
        self._report_letter = Sparing(self._report)
        self._time = HybridClock(clock, self._report)
        self._waiters = Waiters()
        self._outbox = BatchOutbox(steps, self._waiters)
        self._failure_log = FailureLog()
        self._runs = ActiveRuns(
            store, definitions, payloads, capacity=settings.cached_runs, interceptors=interceptors
        )
        self._reviewer = Reviewer(store, self._runs)
        self._timers = TimerQueue(store)
        self._leases = Leases()
        self._own: deque[cm.AnyCommand] = deque()
        self._taken_own: list[cm.AnyCommand] = []
        self._farewells: list[tuple[str, AnyReply]] = []
        self._quarantine = Quarantine()
        self._owned: set[int] = set()
        self._has_open_batch = False
        self.counts = Counts()
        self.pulse = Pulse()
        self._activation = Activation(
            self._runs,
            self._outbox,
            ids,
            payloads=payloads,
            quarantine=self._quarantine,
            can_answer=log.can_answer,
            report=self._report,
        )
        self._touched = self._activation.touched
        self._handler = handler_of(
            self._activation, self._leases, self._waiters, clock, definitions, payloads
        )
        self.batches = 0

    @property
    def leased(self) -> int:
        """Number of leased attempts."""
        return len(self._leases)

    @property
    def clock_ahead_us(self) -> int:
        """Last stamp minus the time of day, microseconds; negative: a clock jump is not followed."""
        return self._time.ahead_us

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
            with suppress(Exception):  # then they ask again by themselves, a little later
                self._log.commit(Batch(self._time.last, replies=self._farewells))
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
            errors.InfrastructureError: the log cannot be used any more; the message says what to
                do.
        """
        pulse, quarantine = self.pulse, self._quarantine
        pulse.turn(Doing.TAKING, timeout_s)
        quarantine.take()
        try:
            commands = self._take(timeout_s)
            at = self._time.now()
            commands = self._one_of(commands, at) if quarantine.is_one_by_one else commands + self._due(at)
            if not commands and not self._farewells:
                pulse.trouble = ""  # what was aborted is no longer ours to do
                return self._review()
            self._has_open_batch = True
            pulse.turn(Doing.HANDLING)
            self._outbox.begin(at)
            self._outbox.batch.replies += self._farewells
            self._activation.begin(at)
            self._handle(commands)
            self._join_steps()
            quarantine.write()
            self._flush()
            handling_us = pulse.turn(Doing.COMMITTING)
            self._log.commit(self._outbox.batch)
        except Exception as error:
            if not self._goes_on_after(error):
                raise
            return True
        self.counts.committed(self._outbox.batch, quarantine.handled, handling_us, pulse.turn(Doing.HANDLING))
        pulse.trouble = ""
        self._committed()
        if self.batches % BATCHES == 0:
            self._review()
        return True

    def _review(self) -> bool:
        """Replay one of the open runs that this process has not replayed yet; whether there was
        one.
        """
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
        """Load the timers, suspended runs and unfinished steps there, and watch attempts whose
        worker may have died meanwhile.
        """
        self._owned |= set(partitions)
        self._time.raise_to(self._store.latest_at())
        self._timers.load()
        self._reviewer.add(partitions)
        for workflow_id, run_id in self._store.suspended(partitions):
            self._own.append(cm.ResumeWorkflow(workflow_id, run_id))
        self._outbox.begin(self._time.last)
        now = self._clock.elapsed()
        for task in self._store.tasks(partitions):
            if task.queue:
                self._leases.expect(task, now)
            else:
                self._outbox.dispatch(task)
        self._outbox.start_steps()

    def partitions_lost(self, partitions: Collection[int]) -> None:
        """Forget what belongs to these, and only that: what an aborted batch has put back for
        others is still to be done.
        """
        self._owned -= set(partitions)
        self._reviewer.remove(partitions)

        def is_gone(workflow_id: str) -> bool:
            return self._log.input_of(workflow_id)[0] in partitions

        self._runs.drop_where(is_gone)
        self._farewells += self._waiters.send_away(is_gone)
        self._own = deque(command for command in self._own if not is_gone(command.workflow_id))
        self._leases.drop_where(is_gone)
        self._quarantine.drop_where(is_gone)
        self._timers.load()

    def next_timer_at(self) -> int | None:
        """When the next timer fires, microseconds, or would if it were not cancelled; None: never."""
        return self._timers.next_at()

    # ---- 1. take

    def _take(self, timeout_s: float) -> list[cm.AnyCommand]:
        if self._own:
            return self._take_own()
        wait_us = timeout_s * 1e6 if self._reviewer.is_done else min(timeout_s, PAUSE_S) * 1e6
        if (at := self._timers.next_at()) is not None:
            wait_us = min(wait_us, max(0, at - self._time.now()))
        if (at := self._leases.next_at()) is not None:
            wait_us = min(wait_us, max(0, at - self._clock.elapsed()))
        return self._log.take(
            1 if self._quarantine.is_one_by_one else self._settings.batch_limit, wait_us / 1e6
        )

    def _take_own(self) -> list[cm.AnyCommand]:
        count = 1 if self._quarantine.is_one_by_one else len(self._own)
        self._taken_own = [self._own.popleft() for _ in range(count)]
        return list(self._taken_own)

    def _one_of(self, commands: list[cm.AnyCommand], at: int) -> list[cm.AnyCommand]:
        """After a batch that could not be written: the next command alone, to find the one that
        does it.
        """
        self._quarantine.count_down()
        return commands or self._due(at, 1)

    def _due(self, at: int, limit: int = AT_ONCE) -> list[cm.AnyCommand]:
        """Timers and leases; an aborted batch puts both back."""
        due: list[cm.AnyCommand] = []
        for timer in self._timers.due(at, None if limit == AT_ONCE else limit):
            due.append(DUE[timer.kind](timer))
            self.counts.lateness_us.add(at - timer.fires_at)
        if len(due) < limit:
            due += self._leases.expired(self._clock.elapsed(), limit)
        return due

    # ---- 3. decide and evolve

    def _handle(self, commands: list[cm.AnyCommand]) -> None:
        handle = interceptor.around_handle(interceptor.at("handle", self._interceptors), self._handler.handle)
        quarantine = self._quarantine
        has_condemned = quarantine.handle(commands)
        self.counts.took(commands)
        for command in commands:
            if has_condemned and (poison := quarantine.found(command)) is not None:
                self._bury(command, poison)
                continue
            quarantine.current = command
            handle(command)
        quarantine.current = None

    def _join_steps(self) -> None:
        """Wait briefly so that steps which end soon, and commands that arrive, join the batch."""
        outbox = self._outbox
        outbox.start_steps()
        if not outbox.awaited or self._quarantine.is_one_by_one:
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
            self._activation.refresh_view(active)
        for active in self._touched.values():
            if not active.events:
                continue
            state = active.state
            state.input_partition, state.input_offset = self._log.input_of(state.workflow_id)
            record = record_of(active, state.last_hash)
            encoded = self._encode(record)
            state.last_hash = hash_of(encoded)
            batch.events.append((record, encoded))
            public = public_state(state, active.view, active.view_fault)
            if _differs(active.public, public):
                batch.states[state.workflow_id] = active.public = public
            if state.phase.is_closed:
                self._waiters.close(state, self._outbox)

    # ---- 5. committed, 6. aborted

    def _committed(self) -> None:
        self._has_open_batch = False
        batch = self._outbox.batch
        self._store.apply(batch)
        explain(batch)
        self._timers.disarm(batch.timers_ended)
        self._timers.arm(batch.timers)
        for active in self._touched.values():
            active.events = []
            if active.state.phase.is_closed:
                self._waiters.forget(active.state.run_id)
                self._runs.drop_if(active)
        self._touched.clear()
        self._waiters.settle()
        self._quarantine.settle()
        self._leases.settle()
        self._taken_own.clear()
        self._farewells.clear()
        self._failure_log.write(self._outbox.failures, self._outbox.refused)
        self._runs.trim()
        self.batches += 1
        for spoilt in batch.letters:
            self.counts.letters[spoilt.reason] += 1
            self._report_letter(
                _notice(spoilt), workflow_id=spoilt.command.workflow_id, run_id=spoilt.command.run_id
            )

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
        self._leases.restore()
        self._waiters.abort()
        self._quarantine.abort()
        self._own.extendleft(reversed(self._taken_own))
        self._taken_own.clear()

    def _goes_on_after(self, error: Exception) -> bool:
        """Abort the batch, and see to it that the next one avoids the error; False: it has to be
        raised.
        """
        if (
            self._farewells
            and self._quarantine.stage is Stage.WRITING
            and not isinstance(error, errors.InfrastructureError)
        ):
            self._farewells.clear()  # they are to blame, perhaps; who waits asks again by itself
            self._abort(
                f"a batch cannot be written: {described(error)}; retrying it without replies to waiting "
                "clients"
            )
            return True
        verdict = self._quarantine.blame(error)
        match verdict:
            case Way.RETRY:
                self._abort(f"{error}; no data lost, retrying")
                self._log.take(0, self._settings.retry_s)
            case Way.ONE_BY_ONE:
                self._abort(
                    f"a batch cannot be written: {described(error)}; retrying its commands one by one"
                )
            case Way.RAISE:
                self._abort("")
            case Poison(command, message, strikes):
                self.counts.poisoned += strikes == 1
                self._abort(
                    _condemnation(command, message), workflow_id=command.workflow_id, run_id=command.run_id
                )
        return verdict is not Way.RAISE

    def _bury(self, command: cm.AnyCommand, poison: Poison) -> None:
        """A command that spoilt a batch becomes a dead letter; with fewer parts each time that this
        cannot be written.
        """
        self._outbox.batch.letters.append(
            Spoilt(command, "poisoned", poison.message, is_bare=poison.strikes >= BARE)
        )
        if poison.strikes == 1 and isinstance(command, cm.Request) and can_reply(command.reply_to):
            message = (
                f"{type(command).__name__} cannot be handled ({poison.message}); it has become a dead letter"
            )
            self._outbox.reply(command, Refused(command.request_id, "bad_input", message))


def _condemnation(command: cm.AnyCommand, message: str) -> str:
    return (
        f"{type(command).__name__} for workflow {command.workflow_id!r} cannot be handled: {message}. It "
        "becomes a dead letter; the "
        "others continue. Unless your code or codec raised this, it is a bug in perdure: please report it"
    )


def _notice(spoilt: Spoilt) -> str:
    command = spoilt.command
    about = (
        f"{type(command).__name__} for workflow {command.workflow_id!r} has become a dead letter "
        f"({spoilt.reason})"
    )
    return f"{about}: {spoilt.message}"


def _differs(before: Any, now: Any) -> bool:
    """Whether the change is visible to readers: times, lengths and coordinates alone are not. Both
    states are of one run.
    """
    return (
        before is None
        or before.status is not now.status
        or before.view != now.view
        or before.waits != now.waits
        or before.reason != now.reason
    )
