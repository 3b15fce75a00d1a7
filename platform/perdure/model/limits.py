"""Limits, checked before anything is appended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

import msgspec

PAYLOAD_BYTES: Final = 1024 * 1024
STORED_BYTES: Final = 64 * 1024 * 1024
"""The largest payload of a store of large payloads."""
ID_BYTES: Final = 255
NAME_BYTES: Final = 255
ATTRIBUTES_BYTES: Final = 16 * 1024
REASON_BYTES: Final = 16 * 1024
CONTEXT_BYTES: Final = 4 * 1024
MEMO_BYTES: Final = 8 * 1024
DETAILS_BYTES: Final = 4 * 1024
SUMMARY_BYTES: Final = 1024


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


def fault_of_memo(memo: bytes) -> str:
    """The fault of a memo; empty: none.

    Args:
        memo: a payload: JSON of an object, or what a codec made of it; or empty.
    """
    if not memo:
        return ""
    if len(memo) > MEMO_BYTES:
        return (
            f"the memo is {len(memo)} bytes long, the limit is {MEMO_BYTES}; a memo is for a few facts, "
            "pass data as arguments"
        )
    if memo[:1] == b"\0":  # of a codec
        return ""
    try:
        msgspec.json.decode(memo, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "the memo is no object of JSON"
    return ""


def fault_of_names(memo: object) -> str:
    """The fault of a memo that is not encoded yet; empty: none.

    Args:
        memo: values by name; None: there is none.
    """
    if memo is None:
        return ""
    if not isinstance(memo, Mapping):
        return f"a memo is a mapping of names to values, not {type(memo).__name__}"
    for name in cast("Mapping[object, object]", memo):
        if not isinstance(name, str) or not is_unicode(name):
            return f"a name in a memo must be valid text, not {name!r:.200}"
    return ""


def fault_of_summary(summary: object) -> str:
    """The fault of a summary, which is one line for people; empty: none."""
    if not isinstance(summary, str):
        return f"summary must be text, not {summary!r:.200}"
    if not is_unicode(summary):
        return f"summary {summary!r:.200} is not valid Unicode"
    if len(summary) > SUMMARY_BYTES // 4 and (size := len(summary.encode())) > SUMMARY_BYTES:
        return f"summary is {size} bytes long, the limit is {SUMMARY_BYTES}; it is one line for people"
    return ""


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
