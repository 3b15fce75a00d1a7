"""Describes the waits of an open run in one sentence."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from perdure.client.description import ANSWER, STOPPING, UNDECIDED, describe, run_of
from perdure.client.reading import state_of
from perdure.client.request_ids import fresh_request_id
from perdure.errors import EngineUnavailable, InfrastructureError
from perdure.model import commands as cm
from perdure.model.states import Status

if TYPE_CHECKING:
    from perdure.client.description import Description, PendingActivity
    from perdure.client.ports import Transport

SUSPENDED: Final = "it is suspended: "
CONDITION: Final = "a signal, or for a condition in its code"
"""What an open run waits for if it waits for nothing of the platform."""
PAUSED: Final = "it is paused "
NO_ENGINE: Final = "no engine answers: "
PING_S: Final = 3.0
"""How long to wait for an engine; a running one answers sooner."""
UNSERVED_S: Final = 5.0
"""If no worker has taken a task for this long, it probably has no worker."""


async def waits_for(transport: Transport, workflow_id: str, run_id: str = "") -> str:
    """Describe the waits of a run; empty if it is closed.

    Args:
        transport: connects to the platform.
        workflow_id: its workflow id.
        run_id: the run; empty: the current one.
    """
    try:
        state = await state_of(transport, workflow_id)
        is_current = state is not None and run_id in ("", state.run_id)
        if state is not None and is_current and state.status is Status.SUSPENDED:
            return f"{SUSPENDED}{state.reason}"
        if state is not None and is_current and state.status.is_closed:
            return ""
        if fault := await _fault_of_engine(transport, workflow_id):
            return fault
        if state is None:
            return "no run with this id exists yet"
        if not is_current:
            # only the last run of a workflow id can be open, so an earlier run has no waits
            page = await transport.read(lambda reader: reader.history(workflow_id, run_id, 1))
            return "" if page.records else f"workflow {workflow_id!r} has no run {run_id!r}"
        run = await transport.read(lambda reader: run_of(state, reader))
    except InfrastructureError as error:
        return str(error)
    return _in_words(describe(state, run, None, {}))


async def _fault_of_engine(transport: Transport, workflow_id: str) -> str:
    """Why no engine responds for a workflow id; empty if one does."""
    ping = cm.QueryWorkflow(workflow_id, "", fresh_request_id(), name="")
    try:
        await transport.request(ping, PING_S)
    except EngineUnavailable as error:
        return f"{NO_ENGINE}{error}"
    return ""


def _in_words(found: Description) -> str:
    if found.status is Status.SUSPENDED:
        return f"{SUSPENDED}{found.reason}"
    if found.status.is_closed:
        return ""
    if found.begins_at is not None:
        return f"its start is delayed until {found.begins_at.isoformat(' ', 'seconds')}"
    if found.paused is not None:
        by = f" by {found.paused.by}" if found.paused.by else ""
        why = f": {found.reason}" if found.reason else ""
        advice = "; retry, complete or fail the activity" if found.paused.activity else ""
        return f"{PAUSED}since {found.paused.since.isoformat(' ', 'seconds')}{by}{why}{advice}"
    waits = [
        f"the compensation {each.name}, attempt {each.attempt} ({each.reason})"
        for each in found.compensations
    ]
    waits += [_activity(each, found.updated_at) for each in found.activities]
    waits += [
        f"a timer{_quoted(timer.summary)}, until {timer.fires_at.isoformat(' ', 'seconds')}"
        for timer in found.timers[:1]
    ]
    waits += [f"its child {child.workflow_id}{_quoted(child.summary)}" for child in found.children[:1]]
    waits += [
        f"token {repr(token.name) if token.name else token.number}"
        + (f", until {token.expires_at.isoformat(' ', 'seconds')}" if token.expires_at else "")
        for token in found.tokens[:1]
    ]
    waits += [f"an answer of workflow {each.workflow_id}" for each in found.messages[:1]]
    waits += [f"update {each.name} to end" for each in found.updates[:1]]
    waits += [f"{each.kind} {each.name or each.number}" for each in found.others[:1]]
    return f"it waits for {'; and for '.join(waits or [CONDITION])}"


def _quoted(summary: str) -> str:
    return f' "{summary}"' if summary else ""


def _activity(activity: PendingActivity, since: datetime) -> str:
    what = f"{'step' if not activity.queue else 'activity'} {activity.name}"
    what += _quoted(activity.summary)
    reason = f" ({activity.reason})" if activity.reason else ""
    if activity.retry_at is not None:
        at = activity.retry_at.isoformat(" ", "seconds")
        return f"{what}, whose attempt {activity.attempt} failed{reason}; the next attempt is at {at}"
    if activity.doing == ANSWER:
        until = "" if activity.expires_at is None else activity.expires_at.isoformat(" ", "seconds")
        return f"an answer for {what}, attempt {activity.attempt}, until {until}"
    if activity.doing == UNDECIDED:
        return f"an operator's decision about {what}, whose attempt {activity.attempt} failed{reason}"
    if activity.doing == STOPPING:
        return f"{what}, asked to stop in attempt {activity.attempt}{reason}"
    if activity.doing != "waiting for a worker":
        return f"{what}, running in attempt {activity.attempt}{reason}"
    waited_s = (datetime.now(UTC) - since).total_seconds()
    serves = (
        f"; no worker has taken it for {waited_s:.0f} s: is one serving this queue?"
        if waited_s > UNSERVED_S
        else ""
    )
    return f"a worker of queue {activity.queue!r} to take {what}{reason}{serves}"
