"""Commands of operators: they let a run continue after a pause, and decide about its activities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.core.state import Phase
from perdure.engine.reads import why_no_code
from perdure.engine.token_answers import fault_of_answer
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.validation import Fault, fault_of

if TYPE_CHECKING:
    from perdure.engine.activation import Activation
    from perdure.engine.active import ActiveRun
    from perdure.engine.messages import Messages


class Operating:
    """Handles the commands of operators that may let a run continue.

    Args:
        activation: the runs of the open batch.
        messages: records what was decided.
    """

    __slots__ = ("_activation", "_messages")

    def __init__(self, activation: Activation, messages: Messages) -> None:
        self._activation = activation
        self._messages = messages

    def unpause(self, command: cm.UnpauseWorkflow) -> None:
        """Let a paused run continue."""
        self._messages.handle(command)
        self._continue(command)

    def override(self, command: cm.RetryActivityNow | cm.ResolveActivity | cm.RejectActivity) -> None:
        """Do what an operator has decided about an activity. A result is checked against the type
        that the code expects.
        """
        activation = self._activation
        active = activation.runs.find(command.workflow_id)
        if isinstance(command, cm.ResolveActivity) and active is not None and not fault_of(command):
            is_open = command.number in active.state.activities and active.state.answers_to(command.run_id)
            if is_open and (fault := self._fault_of_result(active, command)):
                activation.refuse(command, *fault)
                return
        self._messages.handle(command)
        self._continue(command)

    def _fault_of_result(self, active: ActiveRun, command: cm.ResolveActivity) -> Fault | None:
        activation = self._activation
        if active.state.phase is Phase.SUSPENDED:
            return Fault("suspended", f"the result cannot be checked: {why_no_code(active.state)}")
        if (error := activation.bring_live(active)) is not None or active.live is None:
            return Fault("suspended", f"the result cannot be checked: the code cannot be replayed: {error}")
        wrong = fault_of_answer(activation, active.live, ev.ActivityCompleted(command.number, command.value))
        return Fault("bad_input", wrong) if wrong else None

    def _continue(self, command: cm.Request) -> None:
        """Show the code of a run that was just unpaused what it has missed."""
        active = self._activation.runs.find(command.workflow_id)
        if active is None or active.state.phase is not Phase.SUSPENDED:
            return
        if any(type(event) is ev.WorkflowUnpaused for event in active.events):
            active.drop_code()
            self._messages.bring_back(active)
