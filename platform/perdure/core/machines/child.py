"""The machine of one child: another workflow that the run's code has started.

The start is a command for the child's partition, and its answer a command for ours
(`model.addresses`). At most `STARTING` starts are out at a time, so a run that starts ten thousand
children does so in many small batches; the others wait for their turn.

An answer that arrives after the child or the run has closed is dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from perdure.core.machine import (
    NOTHING,
    ActionRule,
    Cancelling,
    Decision,
    Machine,
    Outbox,
    Stamp,
    same_number,
)
from perdure.core.machines.promise import closed_reply
from perdure.core.state import ChildState, ChildStatus, RunState
from perdure.model import actions as ac
from perdure.model import addresses
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.replies import Accepted, Answered, AnyReply, Closed, QueryRaised, Refused
from perdure.model.states import Status, Wait

_S = ChildStatus

STARTING: Final = 500
"""The most starts of one run that await their answers at a time. With the answers that is a batch
of a thousand small records, which takes a fraction of a second."""
ATTACHED: Final = "child"
"""Kind of a parent's address, for the answer that says how the child has ended."""
DETACHED: Final = "detached"
"""Kind of a parent's address, for the answer that says whether the child has started."""

TRANSITIONS: Final[dict[tuple[ChildStatus, type[ev.Event]], ChildStatus]] = {
    (_S.REQUESTED, ev.ChildStarted): _S.STARTED,
    (_S.REQUESTED, ev.ChildRefused): _S.REFUSED,
    (_S.REQUESTED, ev.ChildCancelRequested): _S.REQUESTED,
    (_S.STARTED, ev.ChildCancelRequested): _S.STARTED,
    (_S.STARTED, ev.ChildCompleted): _S.COMPLETED,
    (_S.STARTED, ev.ChildFailed): _S.FAILED,
    (_S.STARTED, ev.ChildCancelled): _S.CANCELLED,
}


# ---- decide: answers


def answer_of(
    kind: type[cm.AnswerChild | cm.AnswerMessage],
) -> Callable[[addresses.Workflow, AnyReply], cm.AnyCommand]:
    """Returns the function that turns an answer into a command of this kind.

    Args:
        kind: the kind of the command.
    """

    def make(address: addresses.Workflow, reply: AnyReply) -> cm.AnyCommand:
        fields: dict[str, Any] = {"workflow_id": address.workflow_id, "run_id": address.run_id}
        match reply:
            case Accepted():
                return kind(**fields, number=address.number, outcome="accepted", other_run_id=reply.run_id)
            case Closed():
                return kind(
                    **fields,
                    number=address.number,
                    outcome=reply.status.value,
                    other_run_id=reply.run_id,
                    result=reply.result,
                    failure=reply.failure,
                    message=reply.reason,
                )
            case Answered():
                return kind(**fields, number=address.number, outcome="completed", result=reply.result)
            case QueryRaised():
                return kind(**fields, number=address.number, outcome="failed", failure=reply.failure)
            case Refused():
                return kind(
                    **fields,
                    number=address.number,
                    outcome="refused",
                    other_run_id=reply.run_id,
                    code=reply.code,
                    message=reply.message,
                )
            case _:
                raise TypeError(f"{type(reply).__name__} answers no request of a workflow")

    return make


def _answered(run: RunState, command: cm.AnswerChild, stamp: Stamp) -> Decision:
    child = run.children.get(command.number)
    if child is None:
        return NOTHING
    is_new = child.status is _S.REQUESTED
    match command.outcome:
        case "accepted":
            return Decision((_started(command),)) if is_new else NOTHING
        case "refused":
            refused = ev.ChildRefused(command.number, command.code, command.message)
            return Decision((refused,)) if is_new else NOTHING
        case _:
            end = _end(command)
            return Decision((_started(command), end) if is_new else (end,))


def _started(command: cm.AnswerChild) -> ev.ChildStarted:
    return ev.ChildStarted(command.number, command.other_run_id)


def _end(command: cm.AnswerChild) -> ev.AnyEvent:
    match command.outcome:
        case Status.COMPLETED:
            return ev.ChildCompleted(command.number, command.result)
        case Status.CANCELLED:
            return ev.ChildCancelled(command.number, command.message)
        case _:
            return ev.ChildFailed(command.number, command.failure, command.outcome, command.message)


# ---- record: the events


def _on_requested(run: RunState, event: ev.ChildRequested, outbox: Outbox | None) -> None:
    run.children[event.number] = ChildState(event, run.last_at)
    if run.unsent is None:
        run.unsent = deque()
    run.unsent.append(event.number)
    _send_starts(run, outbox)


def _on_started(run: RunState, event: ev.ChildStarted, outbox: Outbox | None) -> None:
    child = run.children[event.number]
    child.status = TRANSITIONS[child.status, ev.ChildStarted]
    child.run_id = event.run_id
    if child.requested.on_close == "abandon":
        del run.children[event.number]
    _has_answered(run, outbox)


def _on_refused(run: RunState, event: ev.ChildRefused, outbox: Outbox | None) -> None:
    _closed(run, event)
    _has_answered(run, outbox)


def _on_ended(
    run: RunState, event: ev.ChildCompleted | ev.ChildFailed | ev.ChildCancelled, outbox: Outbox | None
) -> None:
    _closed(run, event)


def _on_cancel_requested(run: RunState, event: ev.ChildCancelRequested, outbox: Outbox | None) -> None:
    child = run.children[event.number]
    child.status = TRANSITIONS[child.status, ev.ChildCancelRequested]
    child.is_cancelled = True
    if child.is_sent and outbox is not None:
        outbox.send(_cancel_command(run, child, "the workflow that started it no longer waits for it"))


def _closed(run: RunState, event: Any) -> None:
    child = run.children.pop(event.number)
    child.status = TRANSITIONS[child.status, type(event)]


def _has_answered(run: RunState, outbox: Outbox | None) -> None:
    run.starting -= 1
    _send_starts(run, outbox)


def _send_starts(run: RunState, outbox: Outbox | None) -> None:
    """Send the next starts, up to the limit."""
    while run.unsent and run.starting < STARTING:
        child = run.children[run.unsent.popleft()]
        child.is_sent = True
        run.starting += 1
        if outbox is None:
            continue
        outbox.send(_start_command(run, child.requested))
        if child.is_cancelled:
            outbox.send(_cancel_command(run, child, "the workflow that started it no longer waits for it"))


def _close(run: RunState, outbox: Outbox | None) -> None:
    """Stop the children of a run that ends, except those that were started to outlive it."""
    if outbox is not None:
        for child in run.children.values():
            if child.is_sent and (command := _closing_command(run, child)) is not None:
                outbox.send(command)
    run.children.clear()
    run.starting, run.unsent = 0, None


def _leave(run: RunState, outbox: Outbox | None) -> None:
    """Leave the children running when another run continues this one; their answers are not
    used.
    """
    for number in run.unsent or ():
        if outbox is not None:
            outbox.send(_start_command(run, run.children[number].requested))
    run.children.clear()
    run.starting, run.unsent = 0, None


def _ended(run: RunState, outbox: Outbox | None) -> None:
    """Answer the parent of a run that has ended."""
    if (
        run.started.parent
        and outbox is not None
        and run.started.parent.startswith(f"{addresses.WORKFLOW}{ATTACHED}/")
    ):
        request = cm.AwaitWorkflow(run.workflow_id, run.run_id, run.started.request_id, run.started.parent)
        outbox.reply(request, closed_reply(run, run.started.request_id))


# ---- commands to the child


def _request_id(run: RunState, number: int) -> str:
    return f"{run.run_id}/child/{number}"


def _start_command(run: RunState, requested: ev.ChildRequested) -> cm.StartWorkflow:
    kind = DETACHED if requested.on_close == "abandon" else ATTACHED
    address = addresses.Workflow(kind, run.workflow_id, run.run_id, requested.number)
    if_closed: Any = requested.if_closed
    return cm.StartWorkflow(
        requested.workflow_id,
        request_id=_request_id(run, requested.number),
        reply_to=str(address),
        type=requested.type,
        input=requested.input,
        if_closed=if_closed,
        timeout_us=requested.timeout_us,
        start_at=requested.start_at,
        trace=run.started.trace,
        context=run.started.context,
        memo=requested.memo,
    )


def _cancel_command(run: RunState, child: ChildState, reason: str) -> cm.CancelWorkflow:
    """The cancellation of the run that our start has led to. It names that start: if the start was
    refused, the workflow id belongs to a run that is not our child.
    """
    requested = child.requested
    number = requested.number
    return cm.CancelWorkflow(
        requested.workflow_id,
        child.run_id,
        f"{_request_id(run, number)}/cancel",
        str(addresses.Workflow(_UNHEARD, run.workflow_id, run.run_id, number)),
        reason=reason,
        started_by=_request_id(run, number),
    )


def _closing_command(run: RunState, child: ChildState) -> cm.AnyCommand | None:
    requested = child.requested
    reason = f"its parent {run.workflow_id} has closed"
    match requested.on_close:
        case "cancel":
            return None if child.is_cancelled else _cancel_command(run, child, reason)
        case "terminate":
            number = requested.number
            return cm.TerminateWorkflow(
                requested.workflow_id,
                child.run_id,
                f"{_request_id(run, number)}/terminate",
                str(addresses.Workflow(_UNHEARD, run.workflow_id, run.run_id, number)),
                reason=reason,
                started_by=_request_id(run, number),
            )
        case _:
            return None


_UNHEARD: Final = "child-stop"
"""Kind of the address for the answer to a cancellation. The answer is ignored: it may be that the
child has already ended, and then the child's own answer says how."""


def _unheard(address: addresses.Workflow, reply: AnyReply) -> cm.AnyCommand:
    return cm.AnswerChild(address.workflow_id, address.run_id, number=0, outcome="accepted")


# ---- actions, and what people read


def _request(run: RunState, action: ac.StartChild, token: Callable[[], str]) -> ev.AnyEvent:
    return ev.ChildRequested(
        action.number,
        action.workflow_id,
        action.type,
        action.input,
        on_close=action.on_close,
        if_closed=action.if_closed,
        timeout_us=action.timeout_us,
        start_at=action.start_at,
        summary=action.summary,
        memo=action.memo,
    )


def _cancel(run: RunState, action: ac.CancelChild, token: Callable[[], str]) -> ev.AnyEvent | None:
    return ev.ChildCancelRequested(action.number) if action.number in run.children else None


def _is_same_child(event: ev.ChildRequested, action: ac.StartChild) -> bool:
    return (event.number, event.workflow_id, event.type) == (action.number, action.workflow_id, action.type)


def _waits(run: RunState, limit: int) -> list[Wait]:
    return [
        Wait(
            "child",
            child.requested.workflow_id,
            number,
            scheduled_at=child.requested_at,
            summary=child.requested.summary,
        )
        for number, child in islice(run.children.items(), limit)
    ]


_ENDS: Final = (ev.ChildRefused, ev.ChildCompleted, ev.ChildFailed, ev.ChildCancelled)

MACHINE: Final = Machine(
    name="child",
    states=ChildStatus,
    transitions=TRANSITIONS,
    decide={cm.AnswerChild: _answered},
    record={
        ev.ChildRequested: _on_requested,
        ev.ChildStarted: _on_started,
        ev.ChildRefused: _on_refused,
        ev.ChildCompleted: _on_ended,
        ev.ChildFailed: _on_ended,
        ev.ChildCancelled: _on_ended,
        ev.ChildCancelRequested: _on_cancel_requested,
    },
    actions={
        ac.StartChild: ActionRule(
            event=ev.ChildRequested,
            to_event=_request,
            fits=_is_same_child,
            in_words="child {0.number} {0.workflow_id!r} of type {0.type!r} started".format,
        ),
        ac.CancelChild: ActionRule(
            event=ev.ChildCancelRequested,
            to_event=_cancel,
            fits=same_number,
            in_words="child {0.number} cancelled".format,
        ),
    },
    cancelling={ac.CancelChild: Cancelling(opened_by=ev.ChildRequested, closed_by=_ENDS)},
    wakes=frozenset({ev.ChildStarted, *_ENDS}),
    holds="children",
    waits=_waits,
    close=_close,
    leave=_leave,
    ended=_ended,
    answers={
        ATTACHED: answer_of(cm.AnswerChild),
        DETACHED: answer_of(cm.AnswerChild),
        _UNHEARD: _unheard,
    },
)
