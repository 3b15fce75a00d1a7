"""An audited request: its entry is written however the request ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote

from starlette.requests import ClientDisconnect

from perdure.api.auth.refusals import AccessRefused
from perdure.api.problems import Problem, of_error

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from perdure.api.admitted import AdmittedRequest
    from perdure.api.audit import AuditLog

_LEAST_REFUSAL = 400
_LEAST_FAULT = 500


class Record:
    """The request's audit entry so far.

    Attributes:
        asked: the request, once it is admitted.
        response: the response, once there is one.
    """

    def __init__(self) -> None:
        self.asked: AdmittedRequest | None = None
        self.response: Response | None = None


@asynccontextmanager
async def audited(
    log: AuditLog, action: str, request: Request, *, is_path_secret: bool = False
) -> AsyncGenerator[Record]:
    """Context manager around admission and handler; stores the entry on exit.

    Unauthenticated requests are not recorded, so that they cannot fill the trail. Nor are requests
    with a token that is not ours.

    Args:
        log: the audit log of the API.
        action: the action of the route.
        request: the request before admission.
        is_path_secret: the path contains a secret, so the trail does not get it.
    """
    record = Record()
    status, who, held, why = _LEAST_FAULT, "", "", ""
    try:
        yield record
        if record.response is not None:
            status = record.response.status_code
    except AccessRefused as refusal:
        status, who, held, why = refusal.status, refusal.who, refusal.held, refusal.slug
        raise
    except ClientDisconnect:
        status, why = _LEAST_REFUSAL, "client-went-away"
        raise
    except Exception as error:
        found = error if isinstance(error, Problem) else of_error(error)
        status, why = (found.status, found.slug) if found is not None else (_LEAST_FAULT, "internal")
        raise
    finally:
        asked = record.asked
        if asked is not None:
            role = asked.principal.role
            is_known = role is not None or status < _LEAST_REFUSAL
            who, held = asked.principal.name if is_known else "", role.value if role is not None else ""
        if who:
            await log.record(
                who=who,
                role=held,
                action=action,
                target=asked.target
                if asked is not None and asked.target
                else ("" if is_path_secret else unquote(next(iter(request.path_params.values()), ""))),
                outcome="done"
                if status < _LEAST_REFUSAL
                else "refused"
                if status < _LEAST_FAULT
                else "failed",
                status=status,
                detail=": ".join(filter(None, (why, asked.detail if asked is not None else ""))),
                request_id=asked.request_id if asked is not None else "",
                address=request.client.host if request.client is not None else "",
            )
