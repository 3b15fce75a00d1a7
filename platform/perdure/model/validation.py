"""Checks commands against the limits, independently of the deployed code. No other module does.

A client checks before it sends, the HTTP API before it forwards, and the engine checks every
command, since other programs may write records of commands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from perdure.errors import RequestRefused
from perdure.model import commands as cm
from perdure.model.duration import LATEST_US, LONGEST_US
from perdure.model.failure import FAILURE_BYTES, size_of
from perdure.model.limits import (
    ATTRIBUTES_BYTES,
    ID_BYTES,
    MEMO_BYTES,
    PAYLOAD_BYTES,
    fault_of_context,
    fault_of_id,
    fault_of_memo,
    fault_of_reason,
)
from perdure.model.replies import Refusal
from perdure.model.streams import BYTES_AT_ONCE, VALUES_AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Callable


NO_DELAYED_UPDATE: Final = (
    "an update needs the code of the run, so it cannot come with a start that is delayed: omit delay "
    "and start_at, or send a signal with the start"
)


MOST_ATTEMPTS: Final = 2**31 - 1


class Fault(NamedTuple):
    """The reason why a command is refused.

    Attributes:
        code: for programs.
        message: for people: which value, how large, what to do.
    """

    code: Refusal
    message: str


def fault_of(command: cm.Command) -> Fault | None:
    """The fault of a command; None: it is valid.

    Args:
        command: any command; reports of workers and timers have no limits here.
    """
    check = _CHECKS.get(type(command))
    return None if check is None else check(command)


def require_valid(command: cm.Request) -> None:
    """Check a request before it is sent.

    Raises:
        RequestRefused: it is invalid.
    """
    if fault := fault_of_id(command.workflow_id):
        raise RequestRefused(fault)
    if found := fault_of(command):
        raise RequestRefused(found.message)


def _of_start(command: cm.StartWorkflow) -> Fault | None:
    if text := fault_of_id(command.workflow_id) or (
        command.request_id and fault_of_id(command.request_id, "request id")
    ):
        return Fault("bad_input", text)
    if (size := len(command.attributes)) > ATTRIBUTES_BYTES:
        return Fault("limit", f"the attributes are {size} bytes long, the limit is {ATTRIBUTES_BYTES}")
    if command.context and (text := fault_of_context(command.context)):
        return Fault("bad_input", text)
    if command.memo and (text := fault_of_memo(command.memo)):
        return Fault("limit" if len(command.memo) > MEMO_BYTES else "bad_input", text)
    if fault := _of_payload(command.input, "workflow", command.type):
        return fault
    if not (0 <= command.delay_us <= LONGEST_US and 0 <= command.timeout_us <= LONGEST_US):
        return Fault("bad_input", f"delay and timeout must be between 0 and {LONGEST_US} microseconds")
    if not 0 <= command.start_at <= LATEST_US:
        return Fault("bad_input", f"start_at must be between 0 and {LATEST_US} microseconds since 1970")
    if command.update_name and (command.delay_us or command.start_at):
        return Fault("bad_input", NO_DELAYED_UPDATE)
    if command.signal_name and command.update_name:
        return Fault("bad_input", "a start may have a signal or an update, not both")
    if not (command.signal_input or command.update_input):
        return None
    return _of_payload(command.signal_input, "signal", command.signal_name) or _of_payload(
        command.update_input, "update", command.update_name
    )


def _of_signal(command: cm.SignalWorkflow) -> Fault | None:
    return _of_payload(command.input, "signal", command.name)


def _of_update(command: cm.UpdateWorkflow) -> Fault | None:
    if command.request_id and (text := fault_of_id(command.request_id, "request id")):
        return Fault("bad_input", text)
    return _of_payload(command.input, "update", command.name)


def _of_query(command: cm.QueryWorkflow) -> Fault | None:
    return _of_payload(command.input, "query", command.name)


def _of_wait(command: cm.AwaitWorkflow) -> Fault | None:
    # the answer is part of another command's batch, and might not fit into it
    if len(command.request_id) <= ID_BYTES:
        return None
    return Fault(
        "limit", f"the request id is {len(command.request_id)} characters long, the limit is {ID_BYTES}"
    )


def _of_end(command: cm.CancelWorkflow | cm.TerminateWorkflow | cm.DeleteWorkflow) -> Fault | None:
    fault = fault_of_reason(command.reason)
    return Fault("limit", fault) if fault else None


def _of_operator(command: Any) -> Fault | None:
    """Of a command that says who asks for it, and why."""
    if fault := fault_of_reason(command.reason):
        return Fault("limit", fault)
    if command.by and (fault := fault_of_id(command.by, "name of who asks")):
        return Fault("bad_input", fault)
    return None


def _of_retry(command: cm.RetryActivityNow) -> Fault | None:
    if not 0 <= command.timeout_us <= LONGEST_US:
        return Fault("bad_input", f"the timeout must be between 0 and {LONGEST_US} microseconds")
    if not 0 <= command.maximum_attempts <= MOST_ATTEMPTS:
        return Fault("bad_input", f"maximum_attempts must be between 0 and {MOST_ATTEMPTS}")
    if command.queue and (fault := fault_of_id(command.queue, "queue")):
        return Fault("bad_input", fault)
    return _of_operator(command)


def _of_result(command: cm.ResolveActivity) -> Fault | None:
    if (size := len(command.value)) > PAYLOAD_BYTES:
        return Fault("limit", f"the result is {size} bytes long, the limit is {PAYLOAD_BYTES}")
    return _of_operator(command)


def _of_rejection(command: cm.RejectActivity) -> Fault | None:
    if (size := size_of(command.failure)) > 2 * FAILURE_BYTES:
        return Fault("limit", f"the exception is {size} bytes long, the limit is {2 * FAILURE_BYTES}")
    return _of_operator(command)


def _of_answer(command: cm.ResolveToken) -> Fault | None:
    if (size := len(command.value)) <= PAYLOAD_BYTES:
        return None
    return Fault("limit", f"the value for a token is {size} bytes long, the limit is {PAYLOAD_BYTES}")


def _of_token_failure(command: cm.FailToken) -> Fault | None:
    if (size := size_of(command.failure)) <= 2 * FAILURE_BYTES:
        return None
    return Fault("limit", f"the exception for a token is {size} bytes long, the limit is {2 * FAILURE_BYTES}")


def _of_payload(payload: bytes, kind: str, name: str) -> Fault | None:
    if len(payload) <= PAYLOAD_BYTES:
        return None
    size = f"the arguments of {kind} {name!r} are {len(payload)} bytes long, the limit is {PAYLOAD_BYTES}"
    return Fault("limit", f"{size}. Store large data elsewhere and pass its address.")


def _of_stream(command: cm.WriteStream) -> Fault | None:
    if fault := fault_of_id(command.name, "name of a stream"):
        return Fault("bad_input", fault)
    if (size := sum(map(len, command.values))) > BYTES_AT_ONCE or len(command.values) > VALUES_AT_ONCE:
        return Fault("limit", f"{len(command.values)} values of {size} bytes are too many for one command")
    return None


_CHECKS: Final[dict[type[cm.Command], Callable[[Any], Fault | None]]] = {
    cm.StartWorkflow: _of_start,
    cm.SignalWorkflow: _of_signal,
    cm.UpdateWorkflow: _of_update,
    cm.QueryWorkflow: _of_query,
    cm.AwaitWorkflow: _of_wait,
    cm.CancelWorkflow: _of_end,
    cm.TerminateWorkflow: _of_end,
    cm.DeleteWorkflow: _of_end,
    cm.ResolveToken: _of_answer,
    cm.FailToken: _of_token_failure,
    cm.WriteStream: _of_stream,
    cm.PauseWorkflow: _of_operator,
    cm.UnpauseWorkflow: _of_operator,
    cm.RetryActivityNow: _of_retry,
    cm.ResolveActivity: _of_result,
    cm.RejectActivity: _of_rejection,
}
