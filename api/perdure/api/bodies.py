"""Request bodies: their schemas and validation."""

from __future__ import annotations

import asyncio
import binascii
from base64 import b64decode
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import msgspec

from perdure.api.parameters import refused
from perdure.api.problems import problem
from perdure.errors import UsageError
from perdure.model.duration import microseconds
from perdure.model.limits import fault_of_id, fault_of_reason

if TYPE_CHECKING:
    from starlette.requests import Request

B = TypeVar("B", bound="Body")

BODY_S: Final = 30.0
_JSON: Final = "application/json"


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The base of all bodies."""


class Arguments(Body, frozen=True):
    """Arguments by position.

    Attributes:
        args: JSON values.
        input: in place of them: a payload, base64.
        run_id: this run only; empty: the current one.
    """

    args: msgspec.Raw = msgspec.Raw(b"[]")
    input: str | None = None
    run_id: str = ""

    @property
    def payload(self) -> bytes:
        """As it is recorded."""
        return payload_of(self.args, self.input)


class StartOptions(Body, frozen=True):
    """As `client.options`."""

    if_running: Literal["refuse", "attach", "terminate"] = "refuse"
    if_closed: Literal["start", "refuse", "after_failure"] = "start"
    delay: str | None = None
    timeout: str | None = None
    attributes: dict[str, Any] | None = None


class FirstSignal(Body, frozen=True):
    """A signal that a start brings along: to the run that is open, or to the new one."""

    name: str
    args: msgspec.Raw = msgspec.Raw(b"[]")
    input: str | None = None

    @property
    def payload(self) -> bytes:
        """As it is recorded."""
        return payload_of(self.args, self.input)


class Start(Body, frozen=True):
    """A workflow to start."""

    type: str
    id: str
    args: msgspec.Raw = msgspec.Raw(b"[]")
    input: str | None = None
    options: StartOptions = StartOptions()
    signal: FirstSignal | None = None

    @property
    def payload(self) -> bytes:
        """As it is recorded."""
        return payload_of(self.args, self.input)


class Reason(Body, frozen=True):
    """The reason of a cancellation or termination."""

    reason: str = ""
    run_id: str = ""


async def body_of(request: Request, kind: type[B], *, is_needed: bool = True) -> B:
    """Decode and validate the body.

    Raises:
        Problem: it is not JSON, does not fit, or does not come.
    """
    try:
        async with asyncio.timeout(BODY_S):
            data = await request.body()
    except TimeoutError:
        raise problem(
            "request-timeout", f"the body was not complete within {BODY_S:g} s", {"Connection": "close"}
        ) from None
    if not data and not is_needed:
        return kind()
    content_type = request.headers.get("content-type", _JSON).partition(";")[0].strip().lower()
    if content_type != _JSON:
        raise problem("unsupported-media-type", f"send application/json, not {content_type[:60]!r}")
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        words = str(error).replace("`", "")
        raise refused(f"the body: {words[:1].lower()}{words[1:]}") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise refused(f"the body is not JSON: {error}") from None


def payload_of(args: msgspec.Raw, encoded: str | None) -> bytes:
    """A payload, of JSON arguments or as it is.

    Raises:
        Problem: it is neither.
    """
    if encoded is not None:
        if bytes(args) != b"[]":
            raise refused("give args or input, not both")
        try:
            return b64decode(encoded, validate=True)
        except binascii.Error:
            raise refused("input is not base64") from None
    data = bytes(args)
    if not data.lstrip().startswith(b"["):
        raise refused("args must be an array of positional arguments")
    return data


def duration_us(name: str, text: str | None) -> int:
    """Microseconds; 0 for none.

    Raises:
        Problem: it is no duration.
    """
    if text is None:
        return 0
    try:
        return microseconds(text)
    except UsageError as error:
        raise refused(f"{name}: {error}") from None


def checked_id(value: str, what: str) -> str:
    """An id that may be empty.

    Raises:
        Problem: it cannot be one.
    """
    if value and (fault := fault_of_id(value, what)):
        raise refused(fault)
    return value


def checked_reason(reason: str) -> str:
    """Raises a Problem when it cannot be a reason."""
    if fault := fault_of_reason(reason):
        raise refused(fault)
    return reason
