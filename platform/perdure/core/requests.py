"""Tells a repeated request from a different one with the same id.

A caller repeats a request that may have been lost, under the same id. To tell whether it is the
same request, a run remembers a hash of the content for each kind of request and id. Requests of
different kinds may have the same id.
"""

from __future__ import annotations

from itertools import islice
from typing import Final
from zlib import crc32

from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.replies import Accepted, Refused

_CODED = b"\0"
"""First byte of an encoded payload. Such a payload may be encrypted and differ each time, so it is
not hashed."""

WITH_START = "signal with start"
"""The kind of a signal that came with a start, under the start's id."""

OVERRIDE: Final = "decision about an activity"
"""The kind of an operator's decision."""

Key = tuple[str, str]
"""Kind and id."""

CARRIED: Final = 1_000
"""The most requests that the next run of a chain knows, the latest ones."""
CARRIED_BYTES: Final = 65_536
"""The most bytes of their ids, together."""


def of_start(start: ev.WorkflowStarted | cm.StartWorkflow) -> int:
    """Identity of a start, for detecting repeats. The delay is not part of it: "in an hour" is
    another time at each repeat.
    """
    memo = _plain(start.memo) if start.memo else b""
    return hash((start.type, _plain(start.input), start.attributes, start.timeout_us, memo))


def of_signal(name: str, payload: bytes) -> int:
    """Identity of a signal, for detecting repeats. The same in every process, since runs record it
    for the runs that continue them.
    """
    return crc32(_plain(payload), crc32(name.encode()))


def of_reason(reason: str) -> int:
    """Identity of a cancellation or termination; as of `of_signal`."""
    return crc32(reason.encode())


def carried(seen: dict[Key, int]) -> tuple[ev.CarriedRequest, ...]:
    """The requests that the next run gets to know, oldest first: a caller that repeats one may not
    have heard that the run has continued as new.

    Args:
        seen: the run's known requests (`RunState.requests`), oldest first.
    """
    latest: list[ev.CarriedRequest] = []
    room = CARRIED_BYTES
    for key in islice(reversed(seen), CARRIED):
        room -= len(key[1].encode())
        if room < 0:
            break
        latest.append(ev.CarriedRequest(*key, seen[key]))
    return tuple(reversed(latest))


def of_asked(by: str, reason: str) -> int:
    """Identity of an operator's request, by who asks and why."""
    return crc32(reason.encode(), crc32(by.encode()))


def of_override(
    number: int, decision: str, by: str, reason: str, options: tuple[int, int, str] = (0, 0, "")
) -> int:
    """Identity of an operator's decision about an activity, for detecting repeats.

    Args:
        number: of the activity.
        decision: what was decided.
        by: who decided.
        reason: why.
        options: of a retry: timeout, attempts and queue.
    """
    return crc32(repr((number, decision, by, reason, options)).encode())


def key_of(command: cm.Request) -> Key:
    """The key under which a run remembers a request."""
    match command:
        case cm.StartWorkflow():
            return "start", command.request_id
        case cm.SignalWorkflow():
            return "signal", command.request_id
        case cm.UpdateWorkflow():
            return "update", command.request_id
        case cm.CancelWorkflow():
            return "cancel", command.request_id
        case cm.PauseWorkflow():
            return "pause", command.request_id
        case cm.UnpauseWorkflow():
            return "unpause", command.request_id
        case cm.RetryActivityNow() | cm.ResolveActivity() | cm.RejectActivity():
            return OVERRIDE, command.request_id
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
            return of_reason(command.reason)
        case cm.PauseWorkflow() | cm.UnpauseWorkflow():
            return of_asked(command.by, command.reason)
        case cm.RetryActivityNow():
            options = command.timeout_us, command.maximum_attempts, command.queue
            return of_override(command.number, "retry", command.by, command.reason, options)
        case cm.ResolveActivity() | cm.RejectActivity():
            decision = "complete" if isinstance(command, cm.ResolveActivity) else "fail"
            return of_override(command.number, decision, command.by, command.reason)
        case _:
            return 0


def repeated(seen: dict[Key, int], command: cm.Request, run_id: str) -> Accepted | Refused | None:
    """The answer to a request whose id the run knows: the first answer if it is a repeat, else a
    refusal. None: the request is new.

    Args:
        seen: the run's known requests (`RunState.requests`).
        command: the request.
        run_id: the run's id.
    """
    if not command.request_id or (content := seen.get(key_of(command))) is None:
        return None
    if content != content_of(command):
        return differs(command, run_id)
    return Accepted(command.request_id, run_id, is_new=False)


def differs(command: cm.Request, run_id: str) -> Refused:
    """The refusal of a request whose id was used for another one."""
    kind, request_id = key_of(command)
    message = (
        f"the request id {request_id!r} was used for another {kind} of workflow {command.workflow_id!r}; "
        "use a new one for each request, and the same one only to repeat it"
    )
    return Refused(request_id, "bad_input", message, run_id)


def _plain(payload: bytes) -> bytes:
    return payload if not payload.startswith(_CODED) else _CODED
