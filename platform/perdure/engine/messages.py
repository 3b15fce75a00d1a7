"""Messages to existing runs: signals, cancellations, workers' reports, firing timers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from perdure.authoring.workflow_type import definition_of_run
from perdure.core.machines.activity import is_mistake
from perdure.core.machines.pause import pause_due
from perdure.core.registry import WAKES
from perdure.core.run import decide
from perdure.core.state import ActivityStatus, Phase
from perdure.engine.failure_log import in_words
from perdure.engine.faults import fault_of_signal, fault_of_update
from perdure.engine.reads import why_no_code
from perdure.errors import UsageError
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.described import described
from perdure.model.replies import Accepted
from perdure.model.streams import StreamRecord
from perdure.model.tasks import claim_text
from perdure.model.validation import Fault, fault_of
from perdure.replay.suspensions import SUSPENDING, SUSPENDING_ERRORS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perdure.engine.activation import Activation
    from perdure.engine.active import ActiveRun
    from perdure.engine.leases import Leases
    from perdure.engine.ports import Clock
    from perdure.workflow import Definition


OUTCOMES: Final = frozenset({ev.ActivityAttemptFailed, ev.ActivityCompleted, ev.ActivityFailed})
"""How an attempt may have ended."""


class Messages:
    """Handles messages.

    Args:
        activation: the runs of the open batch.
        leases: the leases of attempts.
        clock: measures leases.
        definitions: workflow types by name.
    """

    __slots__ = ("_activation", "_clock", "_definitions", "_leases")

    def __init__(
        self,
        activation: Activation,
        leases: Leases,
        clock: Clock,
        *,
        definitions: Mapping[str, Definition],
    ) -> None:
        self._activation = activation
        self._leases = leases
        self._clock = clock
        self._definitions = definitions

    def handle(self, command: cm.AnyCommand) -> None:
        """Handle a message."""
        self._handle(command)

    def attach(self, signal: cm.SignalWorkflow) -> None:
        """Handle a signal or update that came with a start, for the run that is already open. The
        answer says that no run was started.
        """
        self._handle(signal, is_attached=True)

    def write_stream(self, command: cm.WriteStream) -> None:
        """Give out what an attempt has written to a stream, unless the attempt is over."""
        activation = self._activation
        active = activation.runs.find(command.workflow_id)
        if active is None or active.state.run_id != command.run_id or fault_of(command):
            return
        activity = active.state.activities.get(command.number)
        if activity is None or activity.token != command.token:
            return
        batch = activation.outbox.batch
        for number, value in enumerate(command.values, command.first):
            batch.streams.append(
                StreamRecord(
                    command.workflow_id,
                    command.run_id,
                    command.name,
                    number,
                    value,
                    batch.at,
                    activity=command.number,
                    attempt=activity.attempt,
                )
            )

    def resume(self, command: cm.ResumeWorkflow) -> None:
        """Replay the code of a suspended run again, or check that of a running one."""
        activation = self._activation
        active = activation.runs.find(command.workflow_id)
        if active is None or active.state.run_id != command.run_id:
            return
        if active.state.phase is Phase.RUNNING:
            activation.bring_live(active)
            activation.inline.resume(active, activation.outbox.batch)
            return
        if active.state.phase is not Phase.SUSPENDED:
            return
        self.bring_back(active)

    def bring_back(self, active: ActiveRun) -> None:
        """Let the code of a suspended run continue, if it can. Attempts that failed by a mistake in
        the code, which may be fixed now, are repeated without waiting.
        """
        activation = self._activation
        try:
            wanted = activation.runs.bring_live(active)
        except SUSPENDING_ERRORS as error:
            activation.suspend(active, error)
            return
        activation.record(active, ev.WorkflowResumed())
        activation.act(active, wanted)
        activation.inline.resume(active, activation.outbox.batch)
        for number, activity in list(active.state.activities.items()):
            if activity.status is ActivityStatus.BACKING_OFF and is_mistake(activity.failure):
                activation.record(active, ev.ActivityRetried(number, activity.attempt + 1))
        if (paused := pause_due(active.state)) is not None:
            activation.record(active, paused)

    def _handle(self, command: cm.AnyCommand, *, is_attached: bool = False) -> None:
        activation = self._activation
        active = activation.find(command)
        if active is None:
            return
        if isinstance(command, cm.Request):
            if refusal := self._fault_of(active, command):
                activation.refuse(command, *refusal)
                return
            decision = decide(active.state, command, activation.stamp)
            reply = decision.reply
            if is_attached and isinstance(reply, Accepted):
                reply = replace(reply, is_new=False)
            activation.answer(command, reply)
        else:
            decision = decide(active.state, command, activation.stamp)
        for event in decision.events:
            self.take(active, event)
        if isinstance(command, (cm.CompleteActivity, cm.FailActivity, cm.DeferActivity)):
            self._leases.end(command.token)
        elif isinstance(command, (cm.StartActivity, cm.HeartbeatActivity)):
            self._keep_lease(active, command)

    def take(self, active: ActiveRun, event: Any) -> None:
        """Record an event and show it to the code, after a replay if the code is not in memory."""
        activation = self._activation
        kind: type[ev.Event] = event.__class__
        error = None
        if active.live is None and self._needs_code(active, event):
            error = activation.bring_live(active)
        failed = active.state.activities[event.number].failure if kind in OUTCOMES else None
        activation.record(active, event)
        if error is not None and kind is ev.WorkflowBegun:
            # A delayed run cannot be suspended before it has begun.
            activation.suspend(active, error)
        elif kind in WAKES:
            activation.show(active, event)
        if failed is not None or kind is ev.ActivityAttemptFailed:
            self._suspend_or_bring_back(active, event, was_mistake=is_mistake(failed))

    def _suspend_or_bring_back(self, active: ActiveRun, event: Any, *, was_mistake: bool) -> None:
        """Suspend the run for an attempt that failed by a mistake in the code; resume it after an
        attempt with other code.
        """
        activity = active.state.activities.get(event.number)
        failure = activity.failure if activity is not None else None
        if activity is not None and failure is not None and is_mistake(failure):
            # a value that does not fit is not raised on a line of your code; its message names one
            is_raised = bool(failure.traceback)
            reason = f"activity {activity.name!r}: {in_words(failure)}" if is_raised else failure.message
            self._activation.suspend(active, UsageError(reason))
        elif was_mistake and active.state.phase is Phase.SUSPENDED:
            self.bring_back(active)

    def _needs_code(self, active: ActiveRun, event: Any) -> bool:
        if type(event) in WAKES:
            return active.state.phase is Phase.RUNNING or type(event) is ev.WorkflowBegun
        return isinstance(event, ev.TERMINAL) and self._lacks_view(active)

    def _lacks_view(self, active: ActiveRun) -> bool:
        """Whether the view is missing because the store was restored from events alone; only the
        code can produce it.
        """
        definition = definition_of_run(self._definitions, active.state.started)
        has_one = definition is not None and definition.view is not None
        return has_one and not active.view and active.state.phase is Phase.RUNNING

    def _fault_of(self, active: ActiveRun, command: cm.Request) -> Fault | None:
        if isinstance(command, cm.UpdateWorkflow):
            return self._fault_of_update(active, command)
        if not isinstance(command, cm.SignalWorkflow):
            return fault_of(command)
        if active.state.phase.is_closed:
            return None
        definition = definition_of_run(self._definitions, active.state.started)
        runs = self._activation.runs
        return fault_of(command) or fault_of_signal(definition, runs, command.name, command.input)

    def _fault_of_update(self, active: ActiveRun, command: cm.UpdateWorkflow) -> Fault | None:
        """Why an update is refused; its validator is asked last. None for an update that was
        accepted before: its first answer counts.
        """
        state = active.state
        if state.phase.is_closed or ("update", command.request_id) in state.requests:
            return None
        definition = definition_of_run(self._definitions, state.started)
        if fault := fault_of(command) or fault_of_update(
            definition, self._activation.runs, command.name, command.input
        ):
            return fault
        activation = self._activation
        has_code = state.phase in (Phase.RUNNING, Phase.PAUSED)
        if has_code:
            activation.bring_live(active)
        if not has_code or active.live is None:
            return Fault("suspended", f"the update cannot be taken: {why_no_code(state)}")
        fault = self._rejected(active, command)
        active.drop_code_if_spoilt()
        return fault

    def _rejected(self, active: ActiveRun, command: cm.UpdateWorkflow) -> Fault | None:
        live: Any = active.live
        try:
            live.validate(command.name, command.input)
        except SUSPENDING as error:
            return Fault("bad_input", f"the validator of update {command.name!r}: {error}")
        except BaseException as error:  # noqa: BLE001 - the author's: that is how a validator says no
            return Fault("rejected", f"update {command.name!r} was rejected: {self._described(error)}")
        return None

    def _described(self, error: BaseException) -> str:
        try:
            text: str = self._activation.runs.watched("an exception", described, error)
        except SUSPENDING as blocked:
            return str(blocked)
        return text

    def _keep_lease(self, active: ActiveRun, command: cm.StartActivity | cm.HeartbeatActivity) -> None:
        outbox = self._activation.outbox
        run_id = active.state.run_id
        activity = active.state.activities.get(command.number)
        if activity is None and command.number in (active.state.abandoned or ()):
            return
        if activity is None or activity.token != command.token:
            # Its result is not wanted: stop it, in case the worker missed the cancellation.
            outbox.cancel(run_id, command.number, command.token, is_step=False)
            return
        if activity.options.at_most_once and isinstance(command, cm.StartActivity):
            outbox.batch.cancelled.append(claim_text(command.token, activity.worker))
            if command.worker != activity.worker:
                return  # another worker has it
        if activity.status is ActivityStatus.STOPPING:  # its worker may have missed it
            outbox.cancel(run_id, command.number, command.token, is_step=False)
        self._leases.renew(command, run_id, self._clock.elapsed())
        if isinstance(command, cm.HeartbeatActivity) and command.details:
            outbox.keep_details(run_id, command.number, command.details)
