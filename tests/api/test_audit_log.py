"""What was done is written down before it is answered, and a trail that cannot be written holds
nobody up."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import structlog
from structlog.testing import capture_logs

from perdure.adapters.memory.audit import MemoryAuditTrail
from perdure.api.audit import AuditLog
from perdure.errors import InfrastructureError
from perdure.ports.audit import AuditEntry, StoredEntry

if TYPE_CHECKING:
    from collections.abc import Sequence

SIGNAL: dict[str, Any] = {
    "who": "key:1 ada",
    "role": "operator",
    "action": "signal",
    "target": "order-1",
    "outcome": "done",
    "status": 202,
    "detail": "picked_up",
    "request_id": "r-1",
    "address": "127.0.0.1",
}


def on(target: str) -> dict[str, Any]:
    return {**SIGNAL, "target": target}


class Slow(MemoryAuditTrail):
    """Takes what it is given one lot at a time, when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.lots: list[int] = []
        self.may_go = threading.Semaphore(0)

    def append(self, entries: Sequence[AuditEntry]) -> None:
        assert self.may_go.acquire(timeout=10)
        self.lots.append(len(entries))
        super().append(entries)


class Full(MemoryAuditTrail):
    def append(self, entries: Sequence[AuditEntry]) -> None:
        raise InfrastructureError("the disk is full")


def test_an_entry_is_kept_and_in_the_log_when_record_returns() -> None:
    async def main() -> list[StoredEntry]:
        log = AuditLog(MemoryAuditTrail(), now=lambda: 7_000)
        await log.record(**SIGNAL)
        return await log.entries(10)

    structlog.reset_defaults()
    with capture_logs() as lines:
        assert asyncio.run(main()) == [StoredEntry(1, AuditEntry(at=7, **SIGNAL))]
    assert lines == [
        {"event": "signal", "log_level": "info", **{k: v for k, v in SIGNAL.items() if k != "action"}}
    ]


def test_what_comes_while_others_are_written_is_written_together_and_in_order() -> None:
    trail = Slow()

    async def main() -> None:
        log = AuditLog(trail)
        tasks = [asyncio.create_task(log.record(**on(str(number)))) for number in range(10)]
        await asyncio.sleep(0)
        later = [asyncio.create_task(log.record(**on(str(number)))) for number in range(10, 20)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in tasks + later)
        trail.may_go.release(20)
        await asyncio.gather(*tasks, *later)
        assert [kept.entry.target for kept in await log.entries(100)] == [
            str(number) for number in range(19, -1, -1)
        ]
        await log.close()

    with capture_logs():
        asyncio.run(main())
    assert sum(trail.lots) == 20
    assert len(trail.lots) <= 3


def test_an_unwritable_audit_trail_is_reported_and_the_log_has_the_entry() -> None:
    async def main() -> str:
        log = AuditLog(Full())
        await log.record(**SIGNAL)
        await log.close()
        return log.fault

    with capture_logs() as lines:
        assert asyncio.run(main()) == "the disk is full"
    assert [line["event"] for line in lines] == ["signal", "entries are in this log only"]


def test_the_fault_is_shown_only_until_the_trail_stores_entries_again() -> None:
    class Filling(MemoryAuditTrail):
        is_full = True

        def append(self, entries: Sequence[AuditEntry]) -> None:
            if self.is_full:
                raise InfrastructureError("the disk is full")
            super().append(entries)

    trail = Filling()

    async def main() -> None:
        log = AuditLog(trail)
        await log.record(**on("order-1"))
        assert log.fault == "the disk is full"
        trail.is_full = False
        await log.record(**on("order-2"))
        assert log.fault == ""
        assert [kept.entry.target for kept in await log.entries(10)] == ["order-2"]

    with capture_logs():
        asyncio.run(main())


def test_the_trail_is_closed_after_the_last_entry_is_kept() -> None:
    calls: list[str] = []

    class Told(Slow):
        def append(self, entries: Sequence[AuditEntry]) -> None:
            super().append(entries)
            calls.append("append")

        def close(self) -> None:
            calls.append("close")

    trail = Told()

    async def main() -> None:
        log = AuditLog(trail)
        asked = asyncio.create_task(log.record(**SIGNAL))
        await asyncio.sleep(0)
        closing = asyncio.create_task(log.close())
        for _ in range(100):  # time for a close that does not wait
            await asyncio.sleep(0)
        trail.may_go.release()
        await asyncio.gather(asked, closing)

    with capture_logs():
        asyncio.run(main())
    assert calls == ["append", "close"]


def test_who_asked_and_went_away_does_not_hold_others_up() -> None:
    trail = Slow()

    async def main() -> None:
        log = AuditLog(trail)
        gone = asyncio.create_task(log.record(**SIGNAL))
        await asyncio.sleep(0)
        gone.cancel()
        trail.may_go.release(2)
        await log.record(**on("order-2"))
        assert {kept.entry.target for kept in await log.entries(10)} == {"order-1", "order-2"}
        await log.close()

    with capture_logs():
        asyncio.run(main())
