"""Deletes closed runs on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.engine.retention import SLICE
from perdure.model.replies import Accepted
from perdure.model.retention import last_closed
from perdure.model.validation import fault_of

if TYPE_CHECKING:
    from perdure.engine.activation import Activation
    from perdure.engine.earlier_runs import EarlierRuns
    from perdure.engine.retention import RunRemover
    from perdure.model import commands as cm


class Deleting:
    """Handles deletions.

    Args:
        activation: the runs of the open batch.
        remover: removes closed runs.
        earlier_runs: the cache of closed runs.
    """

    __slots__ = ("_activation", "_earlier_runs", "_remover")

    def __init__(self, activation: Activation, remover: RunRemover, earlier_runs: EarlierRuns) -> None:
        self._activation = activation
        self._earlier_runs = earlier_runs
        self._remover = remover

    def delete(self, command: cm.DeleteWorkflow) -> None:
        """Remove the runs that the command names with the open batch, and answer."""
        activation, run_id = self._activation, command.run_id
        if fault := fault_of(command):
            activation.refuse(command, *fault)
            return
        active = activation.runs.find(command.workflow_id)
        if active is not None:
            state = active.state
            if not state.closed_at and run_id in ("", state.run_id):
                message = (
                    f"workflow {command.workflow_id!r} is {state.status.value}: only a closed run can be "
                    "deleted; cancel or terminate it first"
                )
                activation.refuse(command, "open", message)
                return
            if active.events and run_id in ("", state.run_id):
                # It has closed in this batch: the store does not have it yet.
                activation.outbox.batch.commands.append(command)
                return
        found = self._remover.runs_of(command.workflow_id)
        runs = sorted((run for run in found if run_id in ("", run.run_id)), key=last_closed)
        if not runs:
            which = f"closed run {run_id!r}" if run_id else "run"
            message = f"workflow {command.workflow_id!r} has no {which}: there is nothing to delete"
            activation.refuse(command, "not_found", message)
            return
        self._remover.ask(runs[:SLICE])
        self._earlier_runs.forget()
        if len(runs) > SLICE:
            activation.outbox.batch.commands.append(command)  # it goes on with the next batch
            return
        activation.answer(command, Accepted(command.request_id, runs[-1].run_id))
