"""Tells a repeated request from another one that has the same id.

A caller repeats a request that may have been lost, with the id that it chose. What was recorded of
the first one says whether the second is the same: a run remembers, for each kind of request and id,
a hash of the content. Ids of different kinds do not meet.
"""

from __future__ import annotations

from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.replies import Accepted, Refused

_CODED = b"\0"
"""First byte of an encoded payload: it may be encrypted, and differ each time."""

WITH_START = "signal with start"
"""The kind of a signal that came with a start, under the start's id."""

Key = tuple[str, str]
"""Kind and id."""


def of_start(start: ev.WorkflowStarted | cm.StartWorkflow) -> int:
    """Identity of a start, for detecting repeats. Its delay is not part of it: "in an hour" is
    another moment each time.
    """
    return hash((start.type, _plain(start.input), start.attributes, start.timeout_us))


def of_signal(name: str, payload: bytes) -> int:
    """Identity of a signal, for detecting repeats."""
    return hash((name, _plain(payload)))


def key_of(command: cm.Request) -> Key:
    """Under which a run remembers a request."""
    match command:
        case cm.StartWorkflow():
            return "start", command.request_id
        case cm.SignalWorkflow():
            return "signal", command.request_id
        case cm.UpdateWorkflow():
            return "update", command.request_id
        case cm.CancelWorkflow():
            return "cancel", command.request_id
        case _:
            return "terminate", command.request_id


def content_of(command: cm.Request) -> int:
    """Identity of a request, for detecting repeats."""
    match command:
        case cm.StartWorkflow():
            return of_start(command)
        case cm.SignalWorkflow():
            return of_signal(command.name, command.input)
        case cm.UpdateWorkflow():
            return of_signal(command.name, command.input)
        case cm.CancelWorkflow() | cm.TerminateWorkflow():
            return hash(command.reason)
        case _:
            return 0


def repeated(seen: dict[Key, int], command: cm.Request, run_id: str) -> Accepted | Refused | None:
    """The answer to a request that the run has taken before, or to another one with the same id;
    None: it is new.

    Args:
        seen: of the run (`RunState.requests`).
        command: the request.
        run_id: of the run.
    """
    if not command.request_id or (content := seen.get(key_of(command))) is None:
        return None
    if content != content_of(command):
        return differs(command, run_id)
    return Accepted(command.request_id, run_id, is_new=False)


def differs(command: cm.Request, run_id: str) -> Refused:
    """The answer to a request whose id was used for another one."""
    kind, request_id = key_of(command)
    message = (
        f"the request id {request_id!r} was used for another {kind} of workflow {command.workflow_id!r}; "
        "use a new one for each request, and the same one only to repeat it"
    )
    return Refused(request_id, "bad_input", message, run_id)


def _plain(payload: bytes) -> bytes:
    return payload if not payload.startswith(_CODED) else _CODED
