"""Answers to tokens. A public token is its own credential: the caller needs no API key."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NotBase64
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.responses import Response

from perdure.api.admitted import AdmittedRequest
from perdure.api.asking import accepted, wants_record
from perdure.api.auth.principal import BEARER, Principal
from perdure.api.bodies import Body, body_of, json_of, schema_of
from perdure.api.parameters import only, refused
from perdure.api.problems import problem
from perdure.api.roles import Role
from perdure.api.routing import Routes
from perdure.client.request_ids import fresh_request_id
from perdure.core.machines.token import UNKNOWN
from perdure.errors import Failure
from perdure.model.commands import FailToken, ResolveToken
from perdure.model.failure import FailureInfo
from perdure.model.tokens import TokenAddress, parse

if TYPE_CHECKING:
    from starlette.requests import Request

routes = Routes()
_FAILURES: Final = msgspec.msgpack.Decoder(FailureInfo)
_RESPONSES: Final[dict[str, Any]] = {
    "202": {
        "description": "Recorded, durably; or the same answer was given before",
        "content": {
            "application/json": {
                "example": {"id": "order-1", "run_id": "01jf", "is_new": True, "position": "3-1042"}
            }
        },
    }
}
_PUBLIC: Final = "A public token needs no API key."


class _Value(Body, frozen=True):
    """A value from perdure's own client: a payload in base64."""

    input: str


class Failed(Body, frozen=True):
    """The failure: a message or, from perdure's own client, an exception as msgpack in base64."""

    message: str = ""
    failure: str | None = None


def bearer_of(request: Request) -> Principal | None:
    """The principal of a public token; None: the text alone is not enough, and the request must be
    admitted.
    """
    address = parse(request.path_params["text"])
    if address is None or not address.is_public:
        return None
    host = request.client.host if request.client is not None else ""
    return Principal(f"{BEARER} from {host}", None, ())


@routes.add(
    "POST", "/tokens/{text}", Role.OPERATOR, "Resolve a token", action="resolve token", bearer=bearer_of,
    body={"schema": {"description": "The value, any JSON."}, "example": {"approved": True}},
    description=f"The body is the value. {_PUBLIC}", responses=_RESPONSES,
)  # fmt: skip
async def resolve_token(asked: AdmittedRequest) -> Response:
    """Answer a token with a value."""
    only(asked.request.query_params)
    text, address = await _token(asked)
    if wants_record(asked):
        value = _unpacked((await body_of(asked.request, _Value)).input)
    else:
        value = await asked.encoded(await json_of(asked.request) or b"null")
    command = ResolveToken(
        address.workflow_id, address.run_id, asked.request_id, token=text, is_anonymous=_is_anonymous(asked),
        value=value,
    )  # fmt: skip
    return await accepted(asked, command)


@routes.add(
    "POST", "/tokens/{text}/fail", Role.OPERATOR, "Fail a token", action="fail token", bearer=bearer_of,
    body={"schema": schema_of(Failed), "example": {"message": "the customer left"}},
    description=f"The workflow's code gets a TokenFailed. {_PUBLIC}", responses=_RESPONSES,
)  # fmt: skip
async def fail_token(asked: AdmittedRequest) -> Response:
    """Answer a token with a failure."""
    only(asked.request.query_params)
    text, address = await _token(asked)
    body = await body_of(asked.request, Failed, is_needed=False)
    failure = failure_of(asked, body.failure, Failure(body.message))
    command = FailToken(
        address.workflow_id, address.run_id, asked.request_id, token=text, is_anonymous=_is_anonymous(asked),
        failure=failure,
    )  # fmt: skip
    return await accepted(asked, command)


def failure_of(asked: AdmittedRequest, encoded: str | None, error: Exception) -> FailureInfo:
    """The failure of a request.

    Args:
        asked: the request.
        encoded: as perdure's own client sends it: msgpack in base64; None: there is none.
        error: the failure that the request describes.

    Raises:
        Problem: the encoded failure cannot be read.
    """
    if encoded is None:
        return asked.backend.payloads.encode_failure(error)
    try:
        return _FAILURES.decode(_unpacked(encoded))
    except msgspec.MsgspecError:
        raise refused("failure is not that of a client of perdure; give a message") from None


async def _token(asked: AdmittedRequest) -> tuple[str, TokenAddress]:
    """The token's text and its parsed address. The audit log gets the address without the
    secret.
    """
    text: str = asked.request.path_params["text"]
    address = parse(text)
    asked.about("a text that is no token" if address is None else address.workflow_id)
    if address is None:
        raise problem("token-not-found", UNKNOWN)
    what = "activity" if address.is_of_activity else "token"
    asked.about(address.workflow_id, f"{what} {address.number}")
    asked.request_id = fresh_request_id()
    if _is_anonymous(asked) and await asked.backend.state(address.workflow_id) is None:
        # an unknown text costs one look-up, and no command is written for it
        raise problem("token-not-found", UNKNOWN)
    return text, address


def _is_anonymous(asked: AdmittedRequest) -> bool:
    return asked.principal.role is None


def _unpacked(encoded: str) -> bytes:
    try:
        return b64decode(encoded, validate=True)
    except NotBase64:
        raise refused("this is not base64") from None
