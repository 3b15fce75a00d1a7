"""The details of a heartbeat: for people, and for the next attempt."""

from __future__ import annotations

from perdure.codec.values import to_json, to_json_of_unknown
from perdure.errors import PayloadError
from perdure.model.limits import PAYLOAD_BYTES


def encoded(details: tuple[object, ...], name: str) -> bytes:
    """The details as JSON, or as their `repr` if they have no JSON form.

    Args:
        details: as passed to `activity.heartbeat`.
        name: of the activity.

    Raises:
        PayloadError: the details are over the limit.
    """
    data = b"[" + b",".join(map(_json_of, details)) + b"]"
    if len(data) > PAYLOAD_BYTES:
        raise PayloadError(
            f"the heartbeat of activity {name!r} is {len(data)} bytes long, the limit is {PAYLOAD_BYTES}. "
            "Store large data elsewhere and pass its address."
        )
    return data


def _json_of(detail: object) -> bytes:
    try:
        return to_json_of_unknown(detail)
    except PayloadError:
        return to_json(_text_of(detail).encode("utf-8", "replace").decode())


def _text_of(detail: object) -> str:
    try:
        return repr(detail)
    except Exception:  # noqa: BLE001  an author's __repr__ may raise anything
        return f"<a {type(detail).__qualname__} that cannot be shown>"
