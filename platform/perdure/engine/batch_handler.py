"""Fills the open batch: handles its commands, waits for quick steps, and closes the records."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from perdure import interceptor
from perdure.codec.records import hash_of
from perdure.core.run import closed_run, public_state
from perdure.core.state import Phase
from perdure.engine.active import record_of
from perdure.engine.outbox import can_reply
from perdure.engine.ports import RefusedCommand
from perdure.engine.quarantine import BARE, Poison
from perdure.model import commands as cm
from perdure.model.replies import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perdure.engine.activation import Activation
    from perdure.engine.counts import Counts
    from perdure.engine.handling import Handler
    from perdure.engine.ports import Log
    from perdure.engine.quarantine import Quarantine
    from perdure.engine.waiters import Waiters
    from perdure.interceptor import Interceptor
    from perdure.model.events import EventRecord


class BatchHandler:
    """Handles the commands of one batch after the other.

    Args:
        activation: the runs of the open batch.
        handler: handles one command.
        log: has the commands that arrive while a batch is open.
        quarantine: knows the commands that fail batches.
        waiters: clients that wait for answers.
        counts: counts the commands.
        encode: encodes an event record as the log writes it.
        interceptors: around each command's handling, outermost first.

    Attributes:
        handler: handles one command.
    """

    __slots__ = (
        "_activation",
        "_counts",
        "_encode",
        "_interceptors",
        "_log",
        "_quarantine",
        "_waiters",
        "handler",
    )

    def __init__(
        self,
        activation: Activation,
        handler: Handler,
        log: Log,
        *,
        quarantine: Quarantine,
        waiters: Waiters,
        counts: Counts,
        encode: Callable[[EventRecord], bytes],
        interceptors: Sequence[Interceptor],
    ) -> None:
        self._activation = activation
        self.handler = handler
        self._log = log
        self._quarantine = quarantine
        self._waiters = waiters
        self._counts = counts
        self._encode = encode
        self._interceptors = interceptors

    def handle(self, commands: list[cm.AnyCommand]) -> None:
        """Handle each command, in order."""
        handle = interceptor.around_handle(interceptor.at("handle", self._interceptors), self.handler.handle)
        quarantine = self._quarantine
        has_condemned = quarantine.handle(commands)
        self._counts.took(commands)
        for command in commands:
            if has_condemned and (poison := quarantine.found(command)) is not None:
                self._bury(command, poison)
                continue
            quarantine.current = command
            handle(command)
        quarantine.current = None

    def join_steps(self, batch_limit: int, join_s: float) -> None:
        """Wait briefly so that steps which end soon, and commands that arrive, join the batch.

        Args:
            batch_limit: commands taken at a time; four times as many in all.
            join_s: the longest wait, seconds.
        """
        outbox = self._activation.outbox
        outbox.start_steps()
        if not outbox.awaited or self._quarantine.is_one_by_one:
            return
        limit = batch_limit * 4
        until = perf_counter() + join_s
        has_any_ended = False
        while outbox.awaited and limit > 0 and (left_s := until - perf_counter()) > 0:
            commands = self._log.take(batch_limit, left_s)
            if not commands:
                break
            limit -= len(commands)
            self.handle(commands)
            has_any_ended = True
            outbox.start_steps()
        if outbox.awaited and not has_any_ended:
            outbox.note_slow()

    def close_records(self) -> None:
        """Finish the event records of the touched runs, and write their public states."""
        activation, outbox = self._activation, self._activation.outbox
        batch, touched = outbox.batch, activation.touched
        # All views first: a view that suspends its run records one more event.
        for active in touched.values():
            activation.refresh_view(active)
        for active in touched.values():
            if not active.events:
                continue
            state = active.state
            state.input_partition, state.input_offset = self._log.input_of(state.workflow_id)
            record = record_of(active, state.last_hash)
            encoded = self._encode(record)
            state.last_hash = hash_of(encoded)
            batch.events.append((record, encoded))
            if state.closed_at:
                batch.closed.append(closed_run(state))
            if state.phase is Phase.CONTINUED:  # the state of the workflow is that of the next run
                continue
            public = public_state(state, active.view, active.view_fault)
            if _differs(active.public, public):
                batch.states[state.workflow_id] = active.public = public
            if state.closed_at:
                self._waiters.close(state, outbox)

    def _bury(self, command: cm.AnyCommand, poison: Poison) -> None:
        """Make a dead letter of a command that fails its batch. Each time that the letter cannot be
        written, it keeps less of the command.
        """
        outbox = self._activation.outbox
        outbox.batch.letters.append(
            RefusedCommand(command, "poisoned", poison.message, is_bare=poison.strikes >= BARE)
        )
        if poison.strikes == 1 and isinstance(command, cm.Request) and can_reply(command.reply_to):
            message = (
                f"{type(command).__name__} cannot be handled ({poison.message}); it has become a dead letter"
            )
            outbox.reply(command, Refused(command.request_id, "bad_input", message))


def _differs(before: Any, now: Any) -> bool:
    """Whether readers can see the change. Changes of times, lengths and coordinates alone do not
    count. Both states are of one run.
    """
    return (
        before is None
        or before.status is not now.status
        or before.view != now.view
        or before.waits != now.waits
        or before.reason != now.reason
    )
