"""Records that mean nothing: they take the place of offsets, so that a mirrored topic has the
numbers of its source.
"""

from __future__ import annotations

from typing import Any, Final

KEY: Final = b"perdure.padding"


def is_padding(record: Any) -> bool:
    """Whether a record of the commands or of the tasks stands for an offset that has none in the
    source.
    """
    return record.value() is None and record.key() == KEY
