"""The contract between the API and our client, beyond the OpenAPI document.

Other callers use JSON. perdure's own client handles payloads unchanged, since your codec may have
encrypted them: it sends `input`, base64, in place of `args`, and requests records instead of JSON
by `Accept`. It then gets the engine's reply as `codec.records` writes it, as with other transports,
under the same status code as other callers.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from perdure.model.streams import StreamPage

if TYPE_CHECKING:
    from perdure.client.listing import Key, Sort

BASE: Final = "/api/v1"
RECORD: Final = "application/vnd.perdure.record"
"""A record, or an array of them, as msgpack."""
PROBLEM: Final = "application/problem+json"
PROBLEMS: Final = "https://perdure.dev/problems/"
"""Prefix of every problem's `type`."""
RESULT_S: Final = 20.0
"""How long our client lets one request for a result wait, seconds, before it repeats it."""

NEXT: Final = "perdure-next"
"""Header of a list that was cut before its limit, by size or by number: the cursor of the next
page."""
EVENTS_LIMIT: Final = 1_000
"""The most events that a page of a history may be asked for."""

decode_page: Final = msgspec.msgpack.Decoder(StreamPage).decode
encode_records: Final = msgspec.msgpack.Encoder().encode
decode_records: Final = msgspec.msgpack.Decoder(list[bytes]).decode


def cursor_of(sort: Sort, key: Key) -> str:
    """The cursor of a page's end: opaque text for callers.

    Args:
        sort: what the list is sorted by.
        key: of the last one of the page, see `ListQuery.key_of`.
    """
    return urlsafe_b64encode(msgspec.json.encode((sort, *key))).decode().rstrip("=")


def time_of(at: int) -> str:
    """Microseconds since 1970 as RFC 3339, exactly; times outside the years 1 to 9999 become the
    nearest of them.
    """
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=min(max(at, _FIRST), _LAST))
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z".rjust(27, "0")


_FIRST: Final = -62_135_596_800_000_000
_LAST: Final = 253_402_300_799_999_999
