"""Request bodies: their schemas and validation."""

from __future__ import annotations

import asyncio
import binascii
from base64 import b64decode
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar, cast

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


def _no_arguments() -> msgspec.Raw:
    return msgspec.Raw(b"[]")


_Positional = Annotated[
    msgspec.Raw, msgspec.Meta(description="By position.", extra_json_schema={"type": "array", "items": {}})
]
_Encoded = Annotated[
    str,
    msgspec.Meta(description="In place of args: a payload.", extra_json_schema={"contentEncoding": "base64"}),
]
_Memo = Annotated[dict[str, Any] | None, msgspec.Meta(description="Facts that the run keeps, by name.")]
_EncodedMemo = Annotated[
    str,
    msgspec.Meta(description="In place of memo: a payload.", extra_json_schema={"contentEncoding": "base64"}),
]
JsonValue = Annotated[msgspec.Raw, msgspec.Meta(description="Any JSON.")]
_RunId = Annotated[str, msgspec.Meta(description="This run only; empty: the current one.")]
_Delay = Annotated[str, msgspec.Meta(examples=["30 days"])]

_Moment = Annotated[
    datetime, msgspec.Meta(tz=True, description="RFC 3339.", examples=["2026-12-24T18:00:00+01:00"])
]


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The base of all bodies."""


class Payloads(Body, frozen=True):
    """Payloads to decode, or JSON to encode; each in base64."""

    payloads: list[str]


class Arguments(Body, frozen=True):
    """Arguments by position."""

    args: _Positional = msgspec.field(default_factory=_no_arguments)
    input: _Encoded | None = None
    run_id: _RunId = ""

    @property
    def payload(self) -> bytes:
        """The encoded payload, as recorded."""
        return payload_of(self.args, self.input)


class StartOptions(Body, frozen=True):
    """Start options, as of `client.options`."""

    if_running: Literal["refuse", "attach", "terminate"] = "refuse"
    if_closed: Literal["start", "refuse", "after_failure"] = "start"
    delay: _Delay | None = None
    start_at: _Moment | None = None
    timeout: _Delay | None = None
    attributes: dict[str, Any] | None = None
    context: dict[str, Any] | None = None
    memo: _Memo = None
    encoded_memo: _EncodedMemo | None = None

    @property
    def memo_payload(self) -> bytes:
        """The memo, as JSON or already encoded; empty: there is none."""
        if self.encoded_memo is not None:
            if self.memo:
                raise refused("give memo or encoded_memo, not both")
            return _decoded("encoded_memo", self.encoded_memo)
        return msgspec.json.encode(self.memo) if self.memo else b""


class FirstSignal(Body, frozen=True):
    """Signal-with-start, with if_running=attach: signals the open run or, if there is none, starts
    one with the signal, atomically.
    """

    name: str
    args: _Positional = msgspec.field(default_factory=_no_arguments)
    input: _Encoded | None = None

    @property
    def payload(self) -> bytes:
        """The encoded payload, as recorded."""
        return payload_of(self.args, self.input)


class FirstUpdate(FirstSignal, frozen=True):
    """Update-with-start, with if_running=attach: updates the open run or, if there is none, starts
    one with the update. The answer has its `update_id`.
    """


class Start(Body, frozen=True):
    """A workflow to start."""

    type: str
    id: str
    args: _Positional = msgspec.field(default_factory=_no_arguments)
    input: _Encoded | None = None
    options: StartOptions = StartOptions()
    signal: FirstSignal | None = None
    update: FirstUpdate | None = None

    @property
    def payload(self) -> bytes:
        """The encoded payload, as recorded."""
        return payload_of(self.args, self.input)


class JobOptions(Body, frozen=True):
    """Options of a job; those of its activity, but for the queue, are in the app."""

    if_closed: Literal["refuse", "after_failure"] = "refuse"
    delay: _Delay | None = None
    start_at: _Moment | None = None
    timeout: _Delay | None = None
    attributes: dict[str, Any] | None = None
    context: dict[str, Any] | None = None
    queue: str = ""
    memo: _Memo = None

    @property
    def memo_payload(self) -> bytes:
        """The memo as JSON; empty: there is none."""
        return msgspec.json.encode(self.memo) if self.memo else b""


class Job(Body, frozen=True):
    """A job: an activity that is run once under the id; without an id, under one of its own."""

    activity: str
    id: str = ""
    args: _Positional = msgspec.field(default_factory=_no_arguments)
    options: JobOptions = JobOptions()

    @property
    def payload(self) -> bytes:
        """The arguments as JSON."""
        return payload_of(self.args, None)


class NewSchedule(Body, frozen=True):
    """A schedule, as of `client.schedule`."""

    type: str
    args: _Positional = msgspec.field(default_factory=_no_arguments)
    cron: str = ""
    every: _Delay | None = None
    timezone: str = "UTC"
    exclude: list[str] = []
    jitter: _Delay | None = None
    overlap: Literal["skip", "queue", "all", "cancel", "terminate"] = "skip"
    catch_up: _Delay = "1 hour"
    timeout: _Delay | None = None
    paused: bool = False
    note: str = ""

    @property
    def payload(self) -> bytes:
        """The arguments as JSON."""
        return payload_of(self.args, None)


class Note(Body, frozen=True):
    """A note for people."""

    note: str = ""


class Backfill(Body, frozen=True):
    """The first and the last moment of a backfill."""

    first: _Moment
    last: _Moment


class Reason(Body, frozen=True):
    """The reason of a cancellation or termination."""

    reason: str = ""
    run_id: _RunId = ""


def schema_of(kind: type[Body]) -> dict[str, Any]:
    """The JSON Schema of a body, with the schemas of its parts inside."""
    _, parts = msgspec.json.schema_components([kind], ref_template="{name}")

    def inside(schema: Any) -> Any:
        if isinstance(schema, list):
            return [inside(each) for each in cast("list[object]", schema)]
        if not isinstance(schema, dict):
            return schema
        found = cast("dict[str, Any]", schema)
        if "$ref" in found:
            found = {**parts[found["$ref"]], **found}
        made = {name: inside(each) for name, each in found.items() if name not in {"$ref", "title"}}
        if isinstance(text := made.get("description"), str):
            made["description"] = " ".join(text.split())
        return made

    schema: dict[str, Any] = inside(parts[kind.__name__])
    return schema


async def body_of(request: Request, kind: type[B], *, is_needed: bool = True) -> B:
    """Decode and validate the body.

    Raises:
        Problem: the body is not JSON, does not fit the schema, or does not arrive.
    """
    data = await _read(request)
    if not data and not is_needed:
        return kind()
    _check_is_json(request)
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        words = str(error).replace("`", "")
        raise refused(f"the body: {words[:1].lower()}{words[1:]}") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise refused(f"the body is not JSON: {error}") from None


async def json_of(request: Request) -> bytes:
    """The raw body, which may be any JSON value; empty if there is none.

    Raises:
        Problem: the body is not JSON, or does not arrive.
    """
    data = await _read(request)
    if data:
        _check_is_json(request)
        try:
            msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise refused(f"the body is not JSON: {error}") from None
    return data


async def _read(request: Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_S):
            return await request.body()
    except TimeoutError:
        raise problem(
            "request-timeout", f"the body was not complete within {BODY_S:g} s", {"Connection": "close"}
        ) from None


def _check_is_json(request: Request) -> None:
    content_type = request.headers.get("content-type", _JSON).partition(";")[0].strip().lower()
    if content_type != _JSON:
        raise problem("unsupported-media-type", f"send application/json, not {content_type[:60]!r}")


def payload_of(args: msgspec.Raw, encoded: str | None) -> bytes:
    """A payload, from JSON arguments or already encoded.

    Raises:
        Problem: the body has neither.
    """
    if encoded is not None:
        if bytes(args) != b"[]":
            raise refused("give args or input, not both")
        return _decoded("input", encoded)
    data = bytes(args)
    if not data.lstrip().startswith(b"["):
        raise refused("args must be an array of positional arguments")
    return data


def _decoded(name: str, text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise refused(f"{name} is not base64") from None


def payload_of_value(value: msgspec.Raw, encoded: str | None) -> bytes:
    """A payload, from any JSON or already encoded.

    Raises:
        Problem: the body has both, or the encoding is wrong.
    """
    if encoded is None:
        return bytes(value)
    if bytes(value) != b"null":
        raise refused("give value or input, not both")
    return _decoded("input", encoded)


def duration_us(name: str, text: str | None) -> int:
    """A duration in microseconds; 0 for none.

    Raises:
        Problem: the text is not a duration.
    """
    if text is None:
        return 0
    try:
        return microseconds(text)
    except UsageError as error:
        raise refused(f"{name}: {error}") from None


def checked_id(value: str, what: str) -> str:
    """A valid id; it may be empty.

    Raises:
        Problem: the text cannot be an id.
    """
    if value and (fault := fault_of_id(value, what)):
        raise refused(fault)
    return value


def checked_reason(reason: str) -> str:
    """A valid reason; raises a Problem for other text."""
    if fault := fault_of_reason(reason):
        raise refused(fault)
    return reason
