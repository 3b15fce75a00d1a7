"""The machine of one message to another workflow that is not an open child of this run: a signal, a
cancellation, or the question how it ends. It has no states: a message is sent, and answered
once.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from perdure.core.machine import NOTHING, ActionRule, Decision, Machine, Outbox, Stamp
from perdure.core.machines.child import answer_of
from perdure.core.state import RunState
from perdure.model import actions as ac
from perdure.model import addresses
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.states import Wait


class Messages(dict[int, tuple[ev.MessageSent, int]]):
    """The messages that are not answered: by number, what was sent and when, microseconds."""


def _answered(run: RunState, command: cm.AnswerMessage, stamp: Stamp) -> Decision:
    if command.number not in run.part(Messages):
        return NOTHING
    answered = ev.MessageAnswered(
        command.number,
        command.outcome,
        command.result,
        command.failure,
        command.code,
        command.message,
    )
    return Decision((answered,))


def _on_sent(run: RunState, event: ev.MessageSent, outbox: Outbox | None) -> None:
    run.part(Messages)[event.number] = event, run.last_at
    if outbox is not None:
        outbox.send(_command(run, event))


def _on_answered(run: RunState, event: ev.MessageAnswered, outbox: Outbox | None) -> None:
    del run.part(Messages)[event.number]


def _close(run: RunState, outbox: Outbox | None) -> None:
    """Does nothing: messages that were sent are not recalled."""
    run.part(Messages).clear()


def _command(run: RunState, sent: ev.MessageSent) -> cm.AnyCommand:
    request_id = f"{run.run_id}/message/{sent.number}"
    reply_to = str(addresses.Workflow("message", run.workflow_id, run.run_id, sent.number))
    match sent.what:
        case "signal":
            return cm.SignalWorkflow(
                sent.workflow_id,
                "",
                request_id,
                reply_to,
                name=sent.name,
                input=sent.input,
                trace=run.started.trace,
            )
        case "update":
            return cm.UpdateWorkflow(
                sent.workflow_id,
                "",
                request_id,
                reply_to,
                name=sent.name,
                input=sent.input,
                trace=run.started.trace,
            )
        case "update_result":
            return cm.AwaitWorkflow(sent.workflow_id, "", request_id, reply_to, update_id=sent.name)
        case "cancel":
            return cm.CancelWorkflow(sent.workflow_id, "", request_id, reply_to, reason=sent.name)
        case "terminate":
            return cm.TerminateWorkflow(sent.workflow_id, "", request_id, reply_to, reason=sent.name)
        case _:
            return cm.AwaitWorkflow(sent.workflow_id, "", request_id, reply_to)


def _send(run: RunState, action: ac.SendMessage, token: Callable[[], str]) -> ev.AnyEvent:
    return ev.MessageSent(action.number, action.what, action.workflow_id, action.name, action.input)


def _is_same(event: ev.MessageSent, action: ac.SendMessage) -> bool:
    return (event.number, event.what, event.workflow_id) == (action.number, action.what, action.workflow_id)


def _in_words(it: Any) -> str:
    kind = f"signal {it.name!r}" if it.what == "signal" else it.what
    return f"message {it.number} ({kind}) sent to workflow {it.workflow_id!r}"


def _waits(run: RunState, limit: int) -> list[Wait]:
    return [
        Wait("message", sent.workflow_id, number, 0, at)
        for number, (sent, at) in islice(run.part(Messages).items(), limit)
    ]


MACHINE: Final = Machine(
    name="message",
    decide={cm.AnswerMessage: _answered},
    record={ev.MessageSent: _on_sent, ev.MessageAnswered: _on_answered},
    actions={
        ac.SendMessage: ActionRule(
            event=ev.MessageSent,
            to_event=_send,
            fits=_is_same,
            in_words=_in_words,
        ),
    },
    wakes=frozenset({ev.MessageAnswered}),
    holds=Messages,
    waits=_waits,
    close=_close,
    answers={"message": answer_of(cm.AnswerMessage)},
)
