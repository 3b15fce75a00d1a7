"""The contract of `ports.audit.AuditTrail`: one suite, for every adapter."""

from __future__ import annotations

from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING

from perdure.ports.audit import AuditEntry

if TYPE_CHECKING:
    from perdure.ports.audit import AuditTrail


def entry(number: int) -> AuditEntry:
    return AuditEntry(
        at=number,
        who="key:1 günther 🍕",
        role="operator",
        action="signal",
        target=f"order/{number}\r\n",
        outcome="done",
        status=202,
        request_id=f"r-{number}",
    )


def assert_latest_come_first_page_by_page(trail: AuditTrail) -> None:
    assert trail.entries(10) == []
    trail.append([entry(1), entry(2)])
    trail.append([entry(3)])
    trail.append([])
    first = trail.entries(2)
    assert [each.entry for each in first] == [entry(3), entry(2)]
    assert [each.entry for each in trail.entries(2, first[-1].number)] == [entry(1)]
    assert trail.entries(2, trail.entries(10)[-1].number) == []


def assert_concurrent_entries_are_all_stored(trail: AuditTrail) -> None:
    with ThreadPool(8) as pool:
        pool.map(lambda number: trail.append([entry(number)]), range(40))
    kept = trail.entries(100)
    assert {each.entry.at for each in kept} == set(range(40))
    assert [each.number for each in kept] == sorted({each.number for each in kept}, reverse=True)


def assert_it_is_closed_twice(trail: AuditTrail) -> None:
    trail.append([entry(1)])
    trail.close()
    trail.close()
