"""Turns replies into results or exceptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure import errors
from perdure.model.failure import described
from perdure.model.refusals import error_of
from perdure.model.replies import Accepted, Answered, AnyReply, Closed, QueryRaised, Refused
from perdure.model.states import Status

if TYPE_CHECKING:
    from perdure.model.payloads import Payloads


def accepted(reply: AnyReply) -> Accepted:
    """Check the reply to a start, a signal, a cancellation or a termination.

    Raises:
        errors.ClientError: the request was refused.
    """
    if isinstance(reply, Accepted):
        return reply
    raise _refused(reply)


def answered(reply: AnyReply, payloads: Payloads, annotation: Any, what: str) -> Any:
    """The result of a query.

    Raises:
        errors.QueryFailed: the query raised; the cause is your exception.
        errors.ClientError: the request was refused.
    """
    if isinstance(reply, Answered):
        return payloads.decode(reply.result, annotation, what=f"the answer of {what}")
    if isinstance(reply, QueryRaised):
        failure = payloads.open_failure(reply.failure)
        raise errors.QueryFailed(f"{what} raised {described(failure)}") from payloads.decode_failure(failure)
    if isinstance(reply, Refused) and reply.code == "bad_input":
        raise errors.QueryFailed(reply.message)
    raise _refused(reply)


def result_of(closed: Closed, payloads: Payloads, annotation: Any, workflow_id: str) -> Any:
    """The result of a closed run.

    Raises:
        errors.WorkflowFailed: the run ended without one.
    """
    failure = payloads.open_failure(closed.failure) if closed.failure else None
    match closed.status:
        case Status.COMPLETED:
            return payloads.decode(closed.result, annotation, what=f"the result of workflow {workflow_id!r}")
        case Status.CANCELLED:
            cause: BaseException = errors.Cancelled(closed.reason or "cancelled")
        case Status.TERMINATED:
            cause = errors.Terminated(closed.reason or "terminated")
        case Status.TIMED_OUT:
            cause = errors.TimedOut("the run's timeout expired")
        case _:
            cause = payloads.decode_failure(failure) if failure else errors.Failure("failed")
    said = f": {described(failure)}" if failure else f": {cause}" if str(cause) else ""
    raise errors.WorkflowFailed(
        f"workflow {workflow_id!r} {closed.status.value.replace('_', ' ')}{said}", cause
    )


def _refused(reply: AnyReply) -> Exception:
    if isinstance(reply, Refused):
        return error_of(reply.code, reply.message)
    return errors.InfrastructureError(
        f"the engine sent {type(reply).__name__}, which does not answer this request"
    )
