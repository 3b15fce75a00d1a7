"""Records each request of operators and admins: the caller, the action, its target, the time, and
the outcome.

An entry goes to the log of the process (logger `perdure.audit`) and to the audit trail of the
platform (`ports/audit.py`), before the answer leaves. Entries that arrive while others are being
written are written together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import structlog

from perdure.errors import InfrastructureError
from perdure.ports.audit import AuditEntry

if TYPE_CHECKING:
    from perdure.ports.audit import AuditTrail, StoredEntry

LOGGER: Final = "perdure.audit"
_LONGEST: Final = 500
"""The most characters of a target or a detail; those of a refused request may have any length."""


class AuditLog:
    """Belongs to one asyncio loop.

    Args:
        trail: stores the entries; closed with this.
        now: nanoseconds since 1970.
    """

    def __init__(self, trail: AuditTrail, now: Callable[[], int] = time.time_ns) -> None:
        self._trail = trail
        self._now = now
        self._logger: Any = structlog.stdlib.get_logger(LOGGER)
        self._waiting: list[tuple[AuditEntry, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        self.fault = ""
        """Why the last entry could not be stored; empty: it was stored. The process log has every
        entry in any case.
        """

    async def record(
        self,
        *,
        who: str,
        role: str,
        action: str,
        target: str,
        outcome: str,
        status: int,
        detail: str = "",
        request_id: str = "",
        address: str = "",
    ) -> None:
        """Store an entry; returns when it is stored or could not be. A failure is not raised, since
        the action itself is done.
        """
        entry = AuditEntry(
            at=self._now() // 1_000,
            who=who,
            role=role,
            action=action,
            target=target[:_LONGEST],
            outcome=outcome,
            status=status,
            detail=detail[:_LONGEST],
            request_id=request_id,
            address=address,
        )
        self._logger.info(
            action,
            who=who,
            role=role,
            target=entry.target,
            outcome=outcome,
            status=status,
            detail=entry.detail,
            request_id=request_id,
            address=address,
        )
        kept = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, kept))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        await kept

    async def entries(self, limit: int, before: int | None = None) -> list[StoredEntry]:
        """The latest entries, newest first.

        Raises:
            InfrastructureError: the entries cannot be read.
        """
        return await asyncio.to_thread(self._trail.entries, limit, before)

    async def close(self) -> None:
        """Write the waiting entries, then close."""
        if self._writing is not None:
            await self._writing
        await asyncio.to_thread(self._trail.close)

    async def _write(self) -> None:
        while self._waiting:
            taken, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(self._trail.append, [entry for entry, _ in taken])
                self.fault = ""
            except InfrastructureError as error:
                self.fault = str(error)
                self._logger.error("entries are in this log only", count=len(taken), reason=self.fault)  # noqa: TRY400 - the reason says all
            for _, kept in taken:
                if not kept.done():
                    kept.set_result(None)
