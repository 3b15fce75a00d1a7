"""Requests of a client that answer tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure import errors
from perdure.client.replies import accepted
from perdure.client.request_ids import fresh_request_id
from perdure.model import commands as cm
from perdure.model.replies import Refused
from perdure.model.tokens import parse
from perdure.model.validation import require_valid

if TYPE_CHECKING:
    from perdure.client.ports import Transport
    from perdure.model.payloads import Payloads
    from perdure.model.tokens import TokenAddress


async def resolve(
    transport: Transport, payloads: Payloads, text: str, value: object, timeout_s: float
) -> None:
    """Answer a token with a value; see `Client.resolve`."""
    address = _address_of(text)
    payload = payloads.encode(value, what="the value for a token")
    command = cm.ResolveToken(
        address.workflow_id, address.run_id, fresh_request_id(), token=text, value=payload
    )
    await _ask(transport, command, timeout_s)


async def fail(
    transport: Transport, payloads: Payloads, text: str, error: BaseException | str, timeout_s: float
) -> None:
    """Answer a token with an exception; see `Client.fail`."""
    address = _address_of(text)
    failure = payloads.encode_failure(errors.Failure(error) if isinstance(error, str) else error)
    command = cm.FailToken(
        address.workflow_id, address.run_id, fresh_request_id(), token=text, failure=failure
    )
    await _ask(transport, command, timeout_s)


def _address_of(text: str) -> TokenAddress:
    address = parse(text)
    if address is None:
        raise errors.TokenNotFound(
            "the text is not that of a token: give all of it, as `token.text` was in the workflow"
        )
    return address


async def _ask(transport: Transport, command: cm.ResolveToken | cm.FailToken, timeout_s: float) -> None:
    require_valid(command)
    reply = await transport.request(command, timeout_s)
    if isinstance(reply, Refused) and reply.code == "suspended":
        raise errors.RequestRefused(reply.message)
    accepted(reply)
