"""The text that a trace is carried as: https://www.w3.org/TR/trace-context/."""

from __future__ import annotations

import re
from typing import Final

_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_CHARACTERS: Final = 55


def traceparent(text: str) -> str:
    """The text if it is a valid traceparent, else empty text: it comes from a header or a record,
    which anyone may write.

    https://www.w3.org/TR/trace-context/#traceparent-header-field-values
    """
    return text if len(text) == _CHARACTERS and _TRACEPARENT.fullmatch(text) else ""
