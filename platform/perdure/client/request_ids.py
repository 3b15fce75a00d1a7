"""Request ids: unique across all processes, cheap to create."""

from __future__ import annotations

from itertools import count
from typing import Final
from uuid import uuid4

_PROCESS: Final = uuid4().hex
_numbers: Final = count(1)


def fresh_request_id() -> str:
    """A new unique request id."""
    return f"{_PROCESS}-{next(_numbers)}"
