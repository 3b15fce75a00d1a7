"""The exception for each refusal, for clients and for workflow code."""

from __future__ import annotations

from typing import Final

from perdure import errors

_ERRORS: Final[dict[str, type[errors.ClientError]]] = {
    "already_started": errors.WorkflowAlreadyStarted,
    "not_found": errors.WorkflowNotFound,
    "closed": errors.WorkflowNotFound,
    "suspended": errors.QueryFailed,
    "rejected": errors.UpdateRejected,
    "unknown_token": errors.TokenNotFound,
    "token_closed": errors.TokenClosed,
}


def error_of(code: str, message: str) -> errors.ClientError:
    """The exception of a refusal.

    Args:
        code: a `replies.Refusal`; one that is not known here is a `RequestRefused`.
        message: the reason, and what to do.
    """
    return _ERRORS.get(code, errors.RequestRefused)(message)
