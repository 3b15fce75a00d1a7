"""Routes of operators: they pause a run, let it continue, and decide about its activities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.responses import Response

from perdure.api.admitted import AdmittedRequest
from perdure.api.answering import failure_of
from perdure.api.asking import ACCEPTED, KEY, accepted, request_id_of
from perdure.api.auth.principal import NOBODY_ASKED
from perdure.api.bodies import (
    Body,
    JsonValue,
    body_of,
    checked_id,
    checked_reason,
    duration_us,
    payload_of_value,
    schema_of,
)
from perdure.api.parameters import only, refused, segment
from perdure.api.roles import Role
from perdure.api.routing import Routes
from perdure.model.commands import (
    PauseWorkflow,
    RejectActivity,
    ResolveActivity,
    RetryActivityNow,
    UnpauseWorkflow,
)

if TYPE_CHECKING:
    from collections.abc import Callable

routes = Routes()
_RESPONSES: Final[dict[str, Any]] = {
    "202": {"description": "Recorded, durably", "content": {"application/json": ACCEPTED}}
}


class Intervention(Body, frozen=True):
    """Why an operator asks, and who does; `by` is not read where callers are authenticated: it is
    then the name of the caller.
    """

    reason: str = ""
    by: str = ""
    run_id: str = ""


class Retry(Intervention, frozen=True):
    """Options of the activity that change from now on."""

    timeout: str | None = None
    maximum_attempts: int | None = None
    queue: str | None = None


class Completed(Intervention, frozen=True):
    """The result: any JSON or, from perdure's own client, a payload in base64."""

    value: JsonValue = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))
    input: str | None = None


class Failed(Intervention, frozen=True):
    """The failure: a message or, from perdure's own client, an exception as msgpack in base64."""

    message: str = ""
    failure: str | None = None


def _pausing(path: str, summary: str, kind: Callable[..., Any]) -> None:
    @routes.add(
        "POST", f"/workflows/{{id}}/{path}", Role.OPERATOR, summary, action=path, parameters=[KEY],
        body={"schema": schema_of(Intervention), "example": {"reason": "the bank is down"}},
        responses=_RESPONSES,
    )  # fmt: skip
    async def change(asked: AdmittedRequest) -> Response:
        only(asked.request.query_params)
        body = await body_of(asked.request, Intervention, is_needed=False)
        asked.about(_id(asked), checked_reason(body.reason))
        return await accepted(asked, kind(asked.target, **_who(asked, body)))

    change.__name__ = f"{path}_workflow"


_pausing("pause", "Pause a run: its code does not run", PauseWorkflow)
_pausing("unpause", "Let a paused run continue", UnpauseWorkflow)


@routes.add(
    "POST", "/workflows/{id}/activities/{number}/retry", Role.OPERATOR, "Retry an activity now",
    action="retry activity", parameters=[KEY],
    body={"schema": schema_of(Retry), "example": {"reason": "the bank is up again", "timeout": "30s"}},
    responses=_RESPONSES,
)  # fmt: skip
async def retry_activity(asked: AdmittedRequest) -> Response:
    """Retry an activity now; its retries begin again."""
    only(asked.request.query_params)
    body = await body_of(asked.request, Retry, is_needed=False)
    number = _number(asked, body.reason)
    if body.timeout is not None and not duration_us("timeout", body.timeout):
        raise refused("timeout must be positive; omit it to leave it as it is")
    if body.maximum_attempts is not None and body.maximum_attempts < 1:
        raise refused("maximum_attempts must be at least 1; omit it to leave it as it is")
    command = RetryActivityNow(
        asked.target,
        **_who(asked, body),
        number=number,
        timeout_us=duration_us("timeout", body.timeout),
        maximum_attempts=body.maximum_attempts or 0,
        queue=checked_id(body.queue or "", "queue"),
    )
    return await accepted(asked, command)


@routes.add(
    "POST", "/workflows/{id}/activities/{number}/complete", Role.OPERATOR, "Give an activity its result",
    action="complete activity", parameters=[KEY],
    body={"schema": schema_of(Completed), "example": {"value": {"paid": True}, "reason": "paid by phone"}},
    responses=_RESPONSES,
)  # fmt: skip
async def complete_activity(asked: AdmittedRequest) -> Response:
    """Give an activity its result, in place of its function."""
    only(asked.request.query_params)
    body = await body_of(asked.request, Completed)
    number = _number(asked, body.reason)
    value = await asked.encoded(payload_of_value(body.value, body.input))
    return await accepted(
        asked, ResolveActivity(asked.target, **_who(asked, body), number=number, value=value)
    )


@routes.add(
    "POST", "/workflows/{id}/activities/{number}/fail", Role.OPERATOR, "Let an activity fail",
    action="fail activity", parameters=[KEY],
    body={"schema": schema_of(Failed), "example": {"message": "the customer left"}},
    responses=_RESPONSES,
)  # fmt: skip
async def fail_activity(asked: AdmittedRequest) -> Response:
    """Let an activity fail: the code gets an ActivityFailed."""
    only(asked.request.query_params)
    body = await body_of(asked.request, Failed, is_needed=False)
    number = _number(asked, body.reason)
    failure = failure_of(asked, body.failure, RuntimeError(body.message))
    return await accepted(
        asked, RejectActivity(asked.target, **_who(asked, body), number=number, failure=failure)
    )


def _who(asked: AdmittedRequest, body: Intervention) -> dict[str, Any]:
    """The fields that all these commands have."""
    name = asked.principal.name
    return {
        "run_id": checked_id(body.run_id, "run id"),
        "request_id": request_id_of(asked),
        "by": checked_id(body.by, "name of who asks") or name if asked.principal is NOBODY_ASKED else name,
        "reason": body.reason,
    }


def _id(asked: AdmittedRequest) -> str:
    return segment(asked.request.path_params["id"])


def _number(asked: AdmittedRequest, reason: str) -> int:
    """The number of the activity; completes the audit record."""
    text: str = asked.request.path_params["number"]
    asked.about(
        _id(asked), f"activity {text[:20]}: {checked_reason(reason)}" if reason else f"activity {text[:20]}"
    )
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 10 and int(text)):
        raise refused(f"the number of an activity is a whole number from 1, not {text[:40]!r}")
    return int(text)
