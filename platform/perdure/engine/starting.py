"""Starts: a new run, or, if the workflow id is in use, a signal or an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.core.run import closed_run
from perdure.core.start import Outcome, decide_start, started_event
from perdure.core.state import Phase
from perdure.engine.activation import PYTHON
from perdure.engine.faults import fault_of_arguments, fault_of_signal, fault_of_update
from perdure.errors import ValueUnavailable
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.replies import Accepted
from perdure.model.validation import Fault, fault_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perdure.engine.activation import Activation
    from perdure.engine.active import ActiveRun
    from perdure.engine.messages import Messages
    from perdure.workflow import Definition


class Starting:
    """Handles starts.

    Args:
        activation: the runs of the open batch.
        messages: handles the signal that comes with a start.
        definitions: workflow types by name.
    """

    __slots__ = ("_activation", "_definitions", "_messages")

    def __init__(
        self,
        activation: Activation,
        messages: Messages,
        definitions: Mapping[str, Definition],
    ) -> None:
        self._activation = activation
        self._messages = messages
        self._definitions = definitions

    def start(self, command: cm.StartWorkflow) -> None:
        """Handle a start."""
        activation = self._activation
        if refusal := fault_of(command):
            activation.refuse(command, *refusal)
            return
        current = activation.runs.find(command.workflow_id)
        decision = decide_start(current.state if current is not None else None, command)
        if decision.outcome is Outcome.ANSWER:
            activation.answer(command, decision.reply)
            return
        if decision.outcome is Outcome.SIGNAL and current is not None and _asks_for_now(command):
            self._begin_early(current)
        if decision.outcome is Outcome.SIGNAL and command.update_name:
            self._messages.handle(_update_of(command))
            return
        if decision.outcome is Outcome.SIGNAL:
            self._messages.attach(_signal_of(command, command.request_id, command.reply_to))
            return
        if refusal := self._fault_of_input(command):
            activation.refuse(command, *refusal)
            return
        if current is not None and decision.outcome is Outcome.TERMINATE_AND_START:
            reason = f"another run was started with if_running={command.if_running!r}"
            activation.record(current, ev.WorkflowTerminated(reason))
        if current is not None:
            activation.outbox.batch.followed.append(closed_run(current.state))
        active = self._new_run(command)
        if command.update_name:
            self._messages.handle(_update_of(command))
        elif command.signal_name and not active.state.phase.is_closed:
            self._messages.handle(_signal_of(command, "", ""))

    def _new_run(self, command: cm.StartWorkflow) -> ActiveRun:
        activation = self._activation
        version = self._definitions[command.type].recorded_version
        started = started_event(command, activation.stamp.at, activation.ids.seed(), PYTHON, version=version)
        run_id = activation.ids.run_id()
        active = activation.begin_run(command.workflow_id, run_id, started)
        if not command.update_name:  # then the answer is that to the update
            activation.outbox.reply(command, Accepted(command.request_id, run_id))
        activation.show_start(active, started)
        return active

    def _begin_early(self, active: ActiveRun) -> None:
        """Begin a run whose start is delayed: the caller has asked for a signal or an update
        together with a start that is not.
        """
        if active.state.phase is Phase.DELAYED:
            self._messages.take(active, ev.WorkflowBegun())

    def _fault_of_input(self, command: cm.StartWorkflow) -> Fault | None:
        """Why this engine's code cannot accept the start."""
        definition = self._definitions.get(command.type)
        if definition is None:
            known = ", ".join(sorted(self._definitions)) or "none"
            return Fault("unknown_type", f"unknown workflow type {command.type!r}; known: {known}")
        runs = self._activation.runs
        try:
            fault = fault_of_arguments(definition.run_fn, runs, f"workflow {command.type!r}", command.input)
        except ValueUnavailable:
            fault = None  # the run begins, and waits until they can be read
        if fault is not None:
            return fault
        if command.update_name:
            return fault_of_update(definition, runs, command.update_name, command.update_input)
        if command.signal_name:
            return fault_of_signal(definition, runs, command.signal_name, command.signal_input)
        return None


def _asks_for_now(command: cm.StartWorkflow) -> bool:
    return not command.delay_us and not command.start_at


def _update_of(command: cm.StartWorkflow) -> cm.UpdateWorkflow:
    """The update that comes with a start."""
    return cm.UpdateWorkflow(
        command.workflow_id,
        "",
        command.request_id,
        command.reply_to,
        name=command.update_name,
        input=command.update_input,
        trace=command.trace,
    )


def _signal_of(command: cm.StartWorkflow, request_id: str, reply_to: str) -> cm.SignalWorkflow:
    """The signal that comes with a start."""
    return cm.SignalWorkflow(
        command.workflow_id,
        "",
        request_id,
        reply_to,
        name=command.signal_name,
        input=command.signal_input,
        trace=command.trace,
    )
