"""Error responses: problem+json, each kind with a stable type.

RFC 9457. The type is a name, `https://perdure.dev/problems/<slug>`; docs/howto/http-api.md lists
them.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec

from perdure import errors
from perdure.adapters.http.contract import PROBLEM, PROBLEMS
from perdure.model.replies import Refused

if TYPE_CHECKING:
    from starlette.responses import Response


class Problem(Exception):
    """An error response.

    Args:
        status: the HTTP status.
        slug: the last part of the type.
        title: the title; the same for every problem of the type.
        detail: what is wrong here, and what to do.
        headers: of the answer.
        more: further members.
    """

    def __init__(
        self,
        status: int,
        slug: str,
        title: str,
        detail: str,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.title = title
        self.detail = detail
        self.headers = headers or {}
        self.more = more

    def body(self) -> bytes:
        """The JSON of the response."""
        told = {
            "type": f"{PROBLEMS}{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }
        return msgspec.json.encode(told)

    def response(self) -> Response:
        """The response, as it is sent."""
        from starlette.responses import Response  # a server of your own app needs no Starlette

        return Response(self.body(), self.status, self.headers, media_type=PROBLEM)


RETRY: Final = {"Retry-After": "1"}

TITLES: Final[dict[str, tuple[int, str]]] = {
    "workflow-not-found": (404, "No such workflow"),
    "workflow-closed": (409, "The workflow has closed"),
    "already-started": (409, "Already submitted"),
    "unknown-type": (422, "No engine knows this workflow type"),
    "unknown-name": (422, "No such signal, query, update or run"),
    "invalid-request": (422, "Invalid request"),
    "limit-exceeded": (413, "Too large"),
    "token-not-found": (404, "No such token"),
    "token-closed": (409, "The token takes no answer"),
    "suspended": (409, "The workflow is suspended"),
    "wrong-state": (409, "Not in a state in which this can be done"),
    "query-failed": (422, "The query raised an exception"),
    "workflow-open": (409, "The run is open"),
    "update-failed": (422, "The update failed"),
    "update-rejected": (422, "The update was rejected"),
    "read-lags": (503, "Reads are behind the requested position"),
    "engine-unavailable": (503, "No engine answers"),
    "unavailable": (503, "Temporarily unavailable"),
    "dead-letter-not-found": (404, "No such dead letter"),
    "not-found": (404, "No such route"),
    "method-not-allowed": (405, "Method not allowed"),
    "unsupported-media-type": (415, "Unsupported media type"),
    "bad-request": (400, "Malformed HTTP request"),
    "headers-too-large": (431, "The headers are too large"),
    "rate-limited": (429, "Too many requests"),
    "request-timeout": (408, "Request timeout"),
    "timeout": (504, "Timed out"),
    "internal": (500, "Internal error"),
}
"""Slug to status and title."""

_REFUSALS: Final = {
    "already_started": "already-started",
    "not_found": "workflow-not-found",
    "closed": "workflow-closed",
    "unknown_type": "unknown-type",
    "unknown_name": "unknown-name",
    "bad_input": "invalid-request",
    "limit": "limit-exceeded",
    "suspended": "suspended",
    "rejected": "update-rejected",
    "unknown_token": "token-not-found",
    "token_closed": "token-closed",
    "open": "workflow-open",
    "wrong_state": "wrong-state",
}
_ERRORS: Final[list[tuple[type[Exception], str]]] = [
    (errors.WorkflowAlreadyStarted, "already-started"),
    (errors.WorkflowNotFound, "workflow-not-found"),
    (errors.TokenNotFound, "token-not-found"),
    (errors.TokenClosed, "token-closed"),
    (errors.ReadLags, "read-lags"),
    (errors.EngineUnavailable, "engine-unavailable"),
    (errors.UpdateRejected, "update-rejected"),
    (errors.ClientError, "invalid-request"),
    (errors.UsageError, "invalid-request"),
    (errors.InfrastructureError, "unavailable"),
]


def problem(slug: str, detail: str, headers: dict[str, str] | None = None, **more: Any) -> Problem:
    """The problem with this slug of `TITLES`; if the service is unavailable, it has a
    `Retry-After`.
    """
    status, title = TITLES[slug]
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers = {**RETRY, **(headers or {})}
    return Problem(status, slug, title, detail, headers, **more)


def of_refusal(refused: Refused) -> Problem:
    """The problem of an engine's refusal."""
    more: dict[str, Any] = {"run_id": refused.run_id} if refused.run_id else {}
    return problem(_REFUSALS[refused.code], as_fields(refused.message), **more)


def of_error(error: Exception) -> Problem | None:
    """The problem of one of our exceptions; None: it is not one of ours."""
    for kind, slug in _ERRORS:
        if isinstance(error, kind):
            return problem(slug, as_fields(str(error)))
    return None


_PARAMETER: Final = re.compile(r"""\b(if_running|if_closed)=(["'])(\w*)\2""")


def as_fields(message: str) -> str:
    """A message of the engine, with Python's parameter names replaced by JSON's field names."""
    return _PARAMETER.sub(r'"\1": "\3"', message)
