"""Limits, checked before anything is appended."""

from __future__ import annotations

from typing import Final

import msgspec

PAYLOAD_BYTES: Final = 1024 * 1024
STORED_BYTES: Final = 64 * 1024 * 1024
"""The largest payload of a store of large payloads."""
ID_BYTES: Final = 255
NAME_BYTES: Final = 255
ATTRIBUTES_BYTES: Final = 16 * 1024
REASON_BYTES: Final = 16 * 1024
CONTEXT_BYTES: Final = 4 * 1024


def is_unicode(text: str) -> bool:
    """Whether the text can be stored: it has no lone surrogates, which undecodable file names
    have.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def fault_of_reason(reason: object) -> str:
    """The fault of a reason for cancellation or termination; empty: none."""
    if not isinstance(reason, str):
        return f"the reason must be text, not {type(reason).__name__}"
    if not is_unicode(reason):
        return "the reason is not valid Unicode"
    if len(reason) > REASON_BYTES // 4 and (size := len(reason.encode())) > REASON_BYTES:
        return f"the reason is {size} bytes long, the limit is {REASON_BYTES}; shorten it"
    return ""


def fault_of_context(data: bytes) -> str:
    """The fault of the context values of a request; empty: none.

    Args:
        data: JSON of an object, or empty.
    """
    if not data:
        return ""
    if len(data) > CONTEXT_BYTES:
        return (
            f"the context values are {len(data)} bytes of JSON, the limit is {CONTEXT_BYTES}; "
            "pass data as arguments"
        )
    try:
        found: object = msgspec.json.decode(data)
    except msgspec.MsgspecError:
        return "the context values are not JSON"
    return "" if isinstance(found, dict) else "the context values are no object of JSON"


def fault_of_id(value: object, what: str = "workflow id") -> str:
    """The fault of an id; empty: none.

    Args:
        value: the id.
        what: what it identifies, for the message.
    """
    if isinstance(value, str) and value.isascii() and value.isprintable() and 0 < len(value) <= ID_BYTES:
        return ""  # as nearly all are
    if not isinstance(value, str):
        return f"the {what} must be text, not {type(value).__name__}"
    if not value:
        return f"the {what} must not be empty"
    if not value.isprintable():
        bad = next(c for c in value if not c.isprintable())
        return f"the {what} {value!r} contains the character U+{ord(bad):04X}; use printable characters only"
    if not is_unicode(value):
        return f"the {what} {value!r} is not valid Unicode"
    if (size := len(value.encode())) > ID_BYTES:
        return f"the {what} is {size} bytes long, the limit is {ID_BYTES}; use a shorter id"
    return ""
