"""The headers of a record, read so that no record can end the process.

Any producer may write a header whose name is not UTF-8. confluent-kafka 2.16 then returns a list
with a NULL entry and leaves an exception set. If Python's interpreter has specialised the call, it
does not check for the exception, and the first use of the entry is a segmentation fault, on each
engine that takes the partition. A call by `methodcaller` is always checked: it raises SystemError.
A second call returns the list with the NULL entry.
"""

from __future__ import annotations

import gc
from operator import methodcaller
from typing import Any, Final, cast

from perdure.errors import UndecodableRecord

Headers = list[tuple[str, "bytes | None"]]

_read: Final = methodcaller("headers")


def headers_of(record: object) -> Headers:
    """The headers of a record whose headers are asked for the first time, in their order; names may
    repeat.

    Raises:
        UndecodableRecord: a name is no UTF-8.
    """
    try:
        return cast("Headers", _read(record) or [])
    except (SystemError, UnicodeDecodeError):
        raise UndecodableRecord(
            "undecodable", "the name of a header is not UTF-8: the client library cannot read any of them"
        ) from None


def headers_left(record: object) -> Headers:
    """The readable headers: none if the name of one is not UTF-8."""
    try:
        found: list[Any] = _read(record) or []
    except (SystemError, UnicodeDecodeError):
        return []
    # inspects the list without touching a NULL entry
    is_whole = all(len(gc.get_referents(each)) == 2 for each in found)
    return cast("Headers", found) if is_whole else []
