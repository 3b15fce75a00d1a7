"""The machine of promises: requests of other workflows that the run will answer later. It has no
states.

A client repeats its request after a restart of the engine, so the engine remembers waiting clients
in memory only (`engine.waiters`). A workflow does not repeat it. So the run records an event for
the promise, and sends the answer in the batch of the event that causes it.

A request that is repeated before the answer was sent leaves no event; one that is repeated later is
answered again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from perdure.core.machine import NOTHING, Decision, Machine, Outbox, Stamp
from perdure.core.state import RunState
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.replies import AnyReply, Closed, Refused

CLOSED: Final = ""
"""The subject of an answer that says how the run ended."""
UPDATE: Final = "update/"
"""Prefix of the subject of an answer to an update; its id follows."""
PROMISES: Final = 1_000
"""The most open promises of a run: all of them are answered in the batch that closes it."""


def promised(run: RunState, request: cm.Request, subject: str) -> Decision:
    """Decide to answer a workflow later.

    Args:
        run: only read.
        request: its `reply_to` is the address of a workflow.
        subject: the subject of the answer.
    """
    if (request.reply_to, request.request_id) in run.promises.get(subject, ()):
        return NOTHING
    if sum(map(len, run.promises.values())) >= PROMISES:
        message = (
            f"workflow {run.workflow_id!r} owes answers to {PROMISES} requests already, which is the limit"
        )
        return Decision(reply=Refused(request.request_id, "limit", message, run.run_id))
    return Decision((ev.AnswerPromised(request.request_id, request.reply_to, subject),))


def keep(run: RunState, subject: str, reply: AnyReply, outbox: Outbox | None) -> None:
    """Answer all that wait for a subject: the workflows it was promised to, and clients.

    Args:
        run: written: its promises about the subject are removed.
        subject: as of `promised`.
        reply: the answer; each request gets it under its own id.
        outbox: written; None: the event that causes the answer is replayed.
    """
    requests = run.promises.pop(subject, ())
    if outbox is not None:
        outbox.answered(run.run_id, subject, reply)
        _send(run, requests, reply, outbox)


def closed_reply(run: RunState, request_id: str) -> Closed:
    """The reply about a closed run, for a request that awaits its end."""
    return Closed(request_id, run.run_id, run.status, run.result, run.failure, run.explanation)


def subject_of(command: cm.AwaitWorkflow) -> str:
    """The subject of a request."""
    return f"{UPDATE}{command.update_id}" if command.update_id else CLOSED


def _await(run: RunState, command: cm.AwaitWorkflow, stamp: Stamp) -> Decision:
    return promised(run, command, subject_of(command))


def _on_promised(run: RunState, event: ev.AnswerPromised, outbox: Outbox | None) -> None:
    run.promises.setdefault(event.subject, {})[event.reply_to, event.request_id] = None


def _ended(run: RunState, outbox: Outbox | None) -> None:
    """Answer every open promise of any subject with the end of the run."""
    if run.promises and outbox is not None:
        reply = closed_reply(run, "")
        for requests in run.promises.values():
            _send(run, requests, reply, outbox)
    run.promises.clear()


def _send(run: RunState, requests: Iterable[tuple[str, str]], reply: AnyReply, outbox: Outbox) -> None:
    for reply_to, request_id in requests:
        request = cm.AwaitWorkflow(run.workflow_id, run.run_id, request_id, reply_to)
        outbox.reply(request, replace(reply, request_id=request_id))


MACHINE: Final = Machine(
    name="promise",
    decide={cm.AwaitWorkflow: _await},
    record={ev.AnswerPromised: _on_promised},
    ended=_ended,
)
