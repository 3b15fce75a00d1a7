"""Converts responses of the API into the engine's replies, or errors."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

import msgspec

from perdure import errors
from perdure.adapters.http.contract import PROBLEMS, RECORD

_SLUGS: Final[dict[str, type[Exception]]] = {
    "engine-unavailable": errors.EngineUnavailable,
    "read-lags": errors.ReadLags,
    "workflow-not-found": errors.WorkflowNotFound,
    "unavailable": errors.InfrastructureError,
    "identity-provider-unavailable": errors.InfrastructureError,
}
_STATUSES: Final[dict[int, type[Exception]]] = {
    HTTPStatus.UNAUTHORIZED: errors.NotAllowed,
    HTTPStatus.FORBIDDEN: errors.NotAllowed,
    HTTPStatus.MISDIRECTED_REQUEST: errors.NotAllowed,
    HTTPStatus.BAD_REQUEST: errors.RequestRefused,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: errors.RequestRefused,
    HTTPStatus.REQUEST_URI_TOO_LONG: errors.RequestRefused,
    HTTPStatus.UNPROCESSABLE_ENTITY: errors.RequestRefused,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: errors.RequestRefused,
    HTTPStatus.SERVICE_UNAVAILABLE: errors.EngineUnavailable,
    HTTPStatus.GATEWAY_TIMEOUT: errors.EngineUnavailable,
}


class Answer(msgspec.Struct, frozen=True):
    """A response of the API.

    Attributes:
        status: of HTTP.
        content_type: without its parameters.
        body: all of it.
        retry_after_s: when to ask again; -1: it does not say.
        next: of a list: the cursor of what follows; empty at its end.
    """

    status: int
    content_type: str
    body: bytes
    retry_after_s: float = -1.0
    next: str = ""

    @property
    def is_record(self) -> bool:
        """Whether it is a record, as our client requested."""
        return self.content_type == RECORD

    @property
    def is_ok(self) -> bool:
        """Whether the response is a success."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def slug(self) -> str:
        """The slug of the response's problem; empty: it is not a problem."""
        return _problem_of(self).type.removeprefix(PROBLEMS)


class _Problem(msgspec.Struct):
    type: str = ""
    title: str = ""
    detail: str = ""


def fault_of(answer: Answer, url: str) -> Exception:
    """The error for a response that is neither a record nor a success; the same that other
    transports raise.

    Args:
        answer: of the API.
        url: of the API, for messages.
    """
    problem = _problem_of(answer)
    said = problem.detail or problem.title
    kind = _SLUGS.get(problem.type.removeprefix(PROBLEMS)) or _STATUSES.get(answer.status)
    if not said:
        return errors.InfrastructureError(
            f"{url} answered {answer.status} in a format that is not perdure's: is it the API's address?"
        )
    if answer.status == HTTPStatus.UNAUTHORIZED:
        said += "; a client takes its credential from PERDURE_TOKEN, or from token=… of connect()"
    return (kind or errors.InfrastructureError)(said)


def _problem_of(answer: Answer) -> _Problem:
    try:
        found: Any = msgspec.json.decode(answer.body, type=_Problem)
    except msgspec.MsgspecError:
        return _Problem()
    return found if isinstance(found, _Problem) else _Problem()
