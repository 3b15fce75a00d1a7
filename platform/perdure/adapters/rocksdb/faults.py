"""Explains RocksDB's errors to operators. rocksdict raises plain `Exception` with RocksDB's own
text, which begins with its code
(https://github.com/facebook/rocksdb/blob/main/include/rocksdb/status.h).
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from perdure.errors import InfrastructureError

if TYPE_CHECKING:
    from pathlib import Path

DAMAGED: Final = "DAMAGED"
"""A file of this name beside RocksDB's own: the directory is deleted at the next start."""


class StoreFault(Enum):
    """Kind of trouble."""

    LOCKED = "another process has it open"
    FULL = "no space left on that disk; free some"
    FORBIDDEN = "this user may not read and write it; fix the permissions, or name another directory"
    DAMAGED = "it is damaged"


def trouble_of(error: Exception) -> StoreFault:
    """Classify an error by its text."""
    text = str(error).lower()
    if (
        "lock hold by current process" in text
        or "resource temporarily unavailable" in text
        or "no locks available" in text
    ):
        return StoreFault.LOCKED
    if "no space left" in text or "quota exceeded" in text:
        return StoreFault.FULL
    if "permission denied" in text or "read-only file system" in text or "too many open files" in text:
        return StoreFault.FORBIDDEN
    return StoreFault.DAMAGED


def fault(error: Exception, path: Path) -> InfrastructureError:
    """The error in our words, of a store that was open; a damaged one is marked for the next
    start.
    """
    trouble = trouble_of(error)
    if trouble is not StoreFault.DAMAGED:
        return InfrastructureError(f"the store in {path} cannot be used: {trouble.value} ({error})")
    try:
        (path / DAMAGED).write_text(f"{error}\n", encoding="utf-8")
    except OSError as unwritable:
        return InfrastructureError(
            f"the store in {path} is damaged ({error}); delete the directory ({unwritable}) and start again"
        )
    return InfrastructureError(
        f"the store in {path} is damaged ({error}); start again: it is rebuilt from the events topic"
    )
