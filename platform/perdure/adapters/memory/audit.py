"""The audit trail in memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from perdure.ports.audit import AuditEntry, StoredEntry


class MemoryAuditTrail:
    """`AuditTrail` in memory: it ends with the process, like its platform."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[StoredEntry] = []

    def append(self, entries: Sequence[AuditEntry]) -> None:
        """Store the entries."""
        with self._lock:
            for entry in entries:
                self._kept.append(StoredEntry(len(self._kept) + 1, entry))

    def entries(self, limit: int, before: int | None = None) -> list[StoredEntry]:
        """The latest entries, newest first."""
        with self._lock:
            kept = self._kept[: before - 1 if before is not None else None]
        return kept[::-1][:limit]

    def close(self) -> None:
        """Nothing to close."""
