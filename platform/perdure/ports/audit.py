"""The audit trail: the actions of people and programs on workflows through the HTTP API, stored
with the platform's own records.

It is stored beside the platform's records: in a table of the SQLite file
(`adapters/sqlite/audit.py`), or in the topic `<namespace>.audit` (`adapters/kafka/admin/audit.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec

PAGE_LIMIT: Final = 1_000
KEPT_US: Final = 400 * 86_400_000_000
"""How long entries are kept: a year, plus time to review it."""


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the audit log.

    Attributes:
        at: when it was answered, microseconds.
        who: the principal: `key:<id> <name>` or `oidc:<subject>`.
        role: the caller's role; empty: none.
        action: `start`, `signal`, `cancel`, …: the route's name.
        target: a workflow id, a dead letter's id; empty: none.
        outcome: `done`, `refused` or `failed` (it is unknown whether it was done).
        status: the HTTP status of the response.
        detail: further arguments, and the reason of a refusal; never payloads.
        request_id: of the HTTP request; the log's lines have it, too.
        address: the client's address.
    """

    at: int
    who: str
    role: str
    action: str
    target: str
    outcome: str
    status: int
    detail: str = ""
    request_id: str = ""
    address: str = ""


class StoredEntry(msgspec.Struct, frozen=True):
    """An entry and its number; later entries have greater numbers."""

    number: int
    entry: AuditEntry


class AuditTrail(Protocol):
    """Append-only. Any thread may use it; it may wait."""

    def append(self, entries: Sequence[AuditEntry]) -> None:
        """Store entries; they are durable when this returns.

        Raises:
            InfrastructureError: they are not; the message says what to do.
        """

    def entries(self, limit: int, before: int | None = None) -> list[StoredEntry]:
        """The latest entries, newest first.

        Args:
            limit: the most entries.
            before: only entries with a smaller number.

        Raises:
            InfrastructureError: they cannot be read.
        """
        ...

    def close(self) -> None:
        """Idempotent."""


encode_entry: Final = msgspec.json.Encoder().encode
decode_entry: Final = msgspec.json.Decoder(AuditEntry).decode


def read_entry(record: Any) -> AuditEntry:
    """Decode an entry. An unreadable one becomes an entry that says so, so that the others can be
    read.
    """
    try:
        return decode_entry(record)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        detail = f"this entry cannot be read: {error}"
        return AuditEntry(
            at=0,
            who="",
            role="",
            action="unreadable",
            target="",
            outcome="unreadable",
            status=0,
            detail=detail[:1_000],
        )
