"""The machine of a pause. A person pauses a run, or an activity whose attempts are exhausted.

While a run is paused, commands and results are recorded as always, its timers hold (the registry
stores none of them), and its code sees nothing. To continue is to resume: the run is suspended for
an instant, and what it has missed is shown to its code as after any other suspension.

The events belong to the machine `lifecycle`, since they change the phase of the run.
"""

from __future__ import annotations

from typing import Final

from perdure.core import requests
from perdure.core.machine import Decision, Machine, Stamp
from perdure.core.machines.activity import exhausted, paused_by
from perdure.core.machines.override import retried
from perdure.core.state import Pause, Phase, RunState
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.duration import utc_text
from perdure.model.replies import Accepted, Refused
from perdure.model.states import UNPAUSE, Wait

# ---- decide


def _pause(run: RunState, command: cm.PauseWorkflow, stamp: Stamp) -> Decision:
    if (reply := requests.repeated(run.requests, command, run.run_id)) is not None:
        return Decision(reply=reply)
    if run.phase is Phase.SUSPENDED:
        return _refused(
            run,
            command,
            f"is suspended, so its code does not run anyway: {run.reason}. Fix that, or terminate it",
        )
    if run.phase.is_paused and not (pause := run.part(Pause)).number:
        by = f" by {pause.by}" if pause.by else ""
        why = f": {run.reason}" if run.reason else ""
        return _refused(run, command, f"is paused already, since {utc_text(pause.since)}{by}{why}")
    has_begun = run.phase not in (Phase.DELAYED, Phase.HELD)
    paused = ev.WorkflowPaused(command.by, command.reason, command.request_id, has_begun=has_begun)
    return Decision((paused,), Accepted(command.request_id, run.run_id))


def _unpause(run: RunState, command: cm.UnpauseWorkflow, stamp: Stamp) -> Decision:
    if (reply := requests.repeated(run.requests, command, run.run_id)) is not None:
        return Decision(reply=reply)
    if not run.phase.is_paused:
        return _refused(run, command, f"is not paused: it is {run.status.value}")
    events: list[ev.AnyEvent] = [ev.WorkflowUnpaused(command.by, command.reason, command.request_id)]
    for activity in exhausted(run):
        events += retried(activity, stamp, command.by, command.reason)
    return Decision(tuple(events), Accepted(command.request_id, run.run_id))


def _refused(run: RunState, command: cm.Request, why: str) -> Decision:
    message = f"workflow {run.workflow_id!r} {why}"
    return Decision(reply=Refused(command.request_id, "wrong_state", message, run.run_id))


def pause_due(run: RunState) -> ev.WorkflowPaused | None:
    """The event of a run that continues although an activity of it waits for a decision: it is
    paused. None: no activity does.
    """
    if run.phase is not Phase.RUNNING:
        return None
    return next((paused_by(activity) for activity in exhausted(run)), None)


def _waits(run: RunState, limit: int) -> list[Wait]:
    if not run.phase.is_paused or limit < 1:
        return []
    pause = run.part(Pause)
    return [Wait(UNPAUSE, pause.by, pause.number, 0, pause.since)]


MACHINE: Final = Machine(
    name="pause",
    decide={cm.PauseWorkflow: _pause, cm.UnpauseWorkflow: _unpause},
    holds=Pause,
    waits=_waits,
)
