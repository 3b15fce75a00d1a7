"""The audit trail in memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from perdure.ports.audit import AuditEntry, StoredEntry


class MemoryAuditTrail:
    """`AuditTrail` that is gone with the process, as its platform is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[StoredEntry] = []

    def append(self, entries: Sequence[AuditEntry]) -> None:
        """Keep them."""
        with self._lock:
            for entry in entries:
                self._kept.append(StoredEntry(len(self._kept) + 1, entry))

    def entries(self, limit: int, before: int | None = None) -> list[StoredEntry]:
        """Latest first."""
        with self._lock:
            kept = self._kept[: before - 1 if before is not None else None]
        return kept[::-1][:limit]

    def close(self) -> None:
        """Nothing to close."""
