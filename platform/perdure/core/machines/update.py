"""The machine of one update: a write with an answer. It is accepted when its validator agrees, and
ends when its handler returns or raises.

A rejected update leaves no event. The answer stays in the history, and clients can ask for it as
long as the history exists.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from itertools import islice
from typing import Final

from perdure.core import requests
from perdure.core.machine import ActionRule, Decision, Machine, Outbox, Stamp, same_number
from perdure.core.machines import promise
from perdure.core.state import RunState
from perdure.model import actions as ac
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.failure import FailureInfo, bounded
from perdure.model.replies import Accepted, Answered, AnyReply, QueryRaised
from perdure.model.states import Wait


class UpdateStatus(IntEnum):
    """Status of an update."""

    ACCEPTED = 1
    COMPLETED = 2
    FAILED = 3


TRANSITIONS: Final[dict[tuple[UpdateStatus, type[ev.Event]], UpdateStatus]] = {
    (UpdateStatus.ACCEPTED, ev.UpdateCompleted): UpdateStatus.COMPLETED,
    (UpdateStatus.ACCEPTED, ev.UpdateFailed): UpdateStatus.FAILED,
}


def answer_of(event: ev.UpdateCompleted | ev.UpdateFailed) -> AnyReply:
    """The answer to an update that has ended."""
    if isinstance(event, ev.UpdateCompleted):
        return Answered("", event.result)
    return QueryRaised("", event.failure)


def unanswered(run: RunState) -> QueryRaised:
    """The answer to an update that was still open when its run ended."""
    message = f"workflow {run.workflow_id!r} has ended before the update did"
    return QueryRaised("", FailureInfo("perdure.errors:Terminated", message, is_final=True))


def _update(run: RunState, command: cm.UpdateWorkflow, stamp: Stamp) -> Decision:
    if (reply := requests.repeated(run.requests, command, run.run_id)) is not None:
        return Decision(reply=reply)
    number = len(run.updates) + 1
    accepted = ev.UpdateAccepted(number, command.request_id or str(number), command.name, command.input)
    return Decision((accepted,), Accepted(command.request_id, run.run_id))


def _on_accepted(run: RunState, event: ev.UpdateAccepted, outbox: Outbox | None) -> None:
    run.updates[event.id] = event.number
    run.open_updates[event.number] = event.id, event.name, run.last_at
    run.requests["update", event.id] = requests.of_signal(event.name, event.input)


def _on_ended(run: RunState, event: ev.UpdateCompleted | ev.UpdateFailed, outbox: Outbox | None) -> None:
    # An update that has ended is not kept: one that is not there takes a row that the table lacks.
    is_open = event.number in run.open_updates
    TRANSITIONS[UpdateStatus.ACCEPTED if is_open else UpdateStatus.COMPLETED, type(event)]
    update_id, _, _ = run.open_updates.pop(event.number)
    run.ended_updates[event.number] = run.last_event_id
    promise.keep(run, promise.UPDATE + update_id, answer_of(event), outbox)


def _ended(run: RunState, outbox: Outbox | None) -> None:
    """Answer the open updates of a run that was ended from outside, since its code cannot."""
    if not run.open_updates:
        return
    for update_id, _, _ in run.open_updates.values():
        promise.keep(run, promise.UPDATE + update_id, unanswered(run), outbox)
    run.open_updates.clear()


def _complete(run: RunState, action: ac.CompleteUpdate, token: Callable[[], str]) -> ev.AnyEvent:
    return ev.UpdateCompleted(action.number, action.result)


def _fail(run: RunState, action: ac.FailUpdate, token: Callable[[], str]) -> ev.AnyEvent:
    return ev.UpdateFailed(action.number, bounded(action.failure))


def _waits(run: RunState, limit: int) -> list[Wait]:
    return [
        Wait("update", name, number, 0, at)
        for number, (_, name, at) in islice(run.open_updates.items(), limit)
    ]


MACHINE: Final = Machine(
    name="update",
    states=UpdateStatus,
    transitions=TRANSITIONS,
    decide={cm.UpdateWorkflow: _update},
    record={
        ev.UpdateAccepted: _on_accepted,
        ev.UpdateCompleted: _on_ended,
        ev.UpdateFailed: _on_ended,
    },
    actions={
        ac.CompleteUpdate: ActionRule(
            event=ev.UpdateCompleted,
            to_event=_complete,
            fits=same_number,
            in_words="update {0.number} completed".format,
        ),
        ac.FailUpdate: ActionRule(
            event=ev.UpdateFailed,
            to_event=_fail,
            fits=same_number,
            in_words="update {0.number} failed".format,
        ),
    },
    wakes=frozenset({ev.UpdateAccepted}),
    holds="open_updates",
    waits=_waits,
    ended=_ended,
)
