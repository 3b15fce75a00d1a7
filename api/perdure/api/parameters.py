"""Parses and validates paths and query strings."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

import msgspec

from perdure.api.problems import problem
from perdure.client.listing import ListQuery
from perdure.client.position import Position
from perdure.errors import RequestRefused, UsageError
from perdure.model.duration import microseconds
from perdure.model.limits import fault_of_id

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams

    from perdure.api.problems import Problem
    from perdure.client.listing import Key

FILTERS: Final = ("type", "status", "id_prefix", "attribute", "where")
MOMENTS: Final = tuple(
    f"{what}_{side}" for what in ("started", "updated", "closed") for side in ("after", "before")
)
REPEATED: Final = ("type", "status", "attribute")
"""Filters that may be repeated: any of the types, any of the statuses, all of the attributes."""
PAGING: Final = ("sort", "order", "limit", "cursor")
LONGEST_WAIT_S: Final = 60.0
_ORDERS: Final = {"desc": "newest", "asc": "oldest", "newest": "newest", "oldest": "oldest"}
_WHOLE: Final = re.compile(r"-?[0-9]{1,19}")
_SECONDS: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


def segment(encoded: str, what: str = "workflow id") -> str:
    """Decode a segment of a path.

    Raises:
        Problem: the segment cannot be an id.
    """
    try:
        text = unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError:
        raise refused(f"the {what} in the path is not percent-encoded UTF-8") from None
    if fault := fault_of_id(text, what):
        raise refused(fault)
    return text


def refused(detail: str) -> Problem:
    """The Problem of an invalid parameter."""
    return problem("invalid-request", detail)


def only(parameters: QueryParams, *known: str) -> None:
    """Check that there are no unknown parameters and no repeated ones: a misspelt filter must not
    return everything.

    Raises:
        Problem: there are.
    """
    for name in parameters:
        if name not in known:
            raise refused(f"unknown parameter {name[:60]!r}; known: {', '.join(known) or 'none'}")
        if name not in REPEATED and len(parameters.getlist(name)) > 1:
            raise refused(f"{name} is given more than once")


def whole(parameters: QueryParams, name: str, default: int, least: int, most: int) -> int:
    """Parse a whole number within bounds.

    Raises:
        Problem: the value is invalid.
    """
    text = parameters.get(name)
    if text is None or text == "":
        return default
    if not _WHOLE.fullmatch(text) or not least <= int(text) <= most:
        raise refused(f"{name}={text[:40]!r} must be a whole number from {least} to {most}")
    return int(text)


def timeout_s(parameters: QueryParams, default_s: float) -> float:
    """The duration `timeout` in seconds: "5s", or "250ms"; a bare number is seconds. At most a
    minute.

    Raises:
        Problem: the value is invalid.
    """
    text = parameters.get("timeout")
    if not text:
        return default_s
    try:
        found = float(text) if _SECONDS.fullmatch(text) else microseconds(text) / 1e6
    except UsageError as error:
        raise refused(f"timeout: {error}") from None
    return min(found, LONGEST_WAIT_S)


def position(parameters: QueryParams) -> Position | None:
    """The position `after`, if one was given.

    Raises:
        Problem: the value is invalid.
    """
    text = parameters.get("after")
    if not text:
        return None
    try:
        return Position.parse(text)
    except RequestRefused as error:
        raise refused(f"after: {error}") from None


def list_query(parameters: QueryParams, *, is_paged: bool = True) -> ListQuery:
    """Parse the parameters of a list.

    Raises:
        Problem: a parameter is invalid.
    """
    only(parameters, *FILTERS, *MOMENTS, *(PAGING if is_paged else ()))
    sort: Any = parameters.get("sort", "started_at")
    moments = {name: _moment(name, parameters[name]) for name in MOMENTS if parameters.get(name)}
    fields: dict[str, Any] = {
        "types": tuple(parameters.getlist("type")),
        "statuses": tuple(parameters.getlist("status")),
        "id_prefix": parameters.get("id_prefix", ""),
        "attributes": tuple(_attribute(each) for each in parameters.getlist("attribute")),
        "where": parameters.get("where", ""),
        **moments,
    }
    try:
        if is_paged:
            order: Any = _ORDERS.get(parameters.get("order", "desc"))
            if order is None:
                raise refused(f"order={parameters['order'][:40]!r} must be asc or desc")
            after = cursor_key(sort, parameters["cursor"]) if parameters.get("cursor") else None
            fields |= {
                "sort": sort,
                "order": order,
                "limit": whole(parameters, "limit", 100, 1, 1000),
                "after": after,
            }
        return ListQuery(**fields)
    except RequestRefused as error:
        raise refused(str(error)) from None


def cursor_key(sort: str, cursor: str) -> Key:
    """The key in a cursor, see `adapters.http.contract.cursor_of`.

    Raises:
        Problem: the cursor is invalid, or belongs to a list with another sort order.
    """
    try:
        found: tuple[str, int | str, str] = msgspec.json.decode(
            urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=tuple[str, int | str, str]
        )
    except (ValueError, msgspec.MsgspecError):
        raise refused("invalid cursor: pass `next` of the previous page unchanged") from None
    if found[0] != sort:
        raise refused(
            f"invalid cursor: it belongs to a list sorted by {found[0][:40]!r}, not by {sort[:40]!r}"
        )
    return found[1], found[2]


def _moment(name: str, text: str) -> int:
    """Parse a time: RFC 3339, or microseconds since 1970."""
    if _WHOLE.fullmatch(text):
        return int(text)
    try:
        found = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        raise refused(f"{name}={text[:40]!r} is not a time: write 2027-01-31T12:00:00Z") from None
    if found.tzinfo is None:
        raise refused(f"{name}={text[:40]!r} has no time zone: write 2027-01-31T12:00:00Z")
    since = found - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _attribute(text: str) -> tuple[str, Any]:
    """Parse `name:value`; the value is JSON or, failing that, text."""
    name, colon, value = text.partition(":")
    if not colon or not name:
        raise refused(f"attribute={text[:60]!r} is not name:value")
    try:
        found: Any = msgspec.json.decode(value)
    except msgspec.MsgspecError:
        found = value
    if isinstance(found, list | dict):
        raise refused(f"attribute={text[:60]!r}: the value must be text, a number, true, false or null")
    return name, found
