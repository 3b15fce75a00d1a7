"""The plan of faults is the seed's; the ledger finds what was done twice, not at all, or not
undone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.chaos.faults import LONG_S, Kind, Who, plan_faults
from tests.chaos.ledger import check_ledger


def test_the_same_seed_makes_the_same_faults() -> None:
    assert plan_faults(7, 120, 3) == plan_faults(7, 120, 3)
    assert plan_faults(7, 120, 3) != plan_faults(8, 120, 3)


@pytest.mark.parametrize("seed", range(20))
def test_two_minutes_have_one_freeze_beyond_all_timeouts_and_end_in_time(seed: int) -> None:
    faults = plan_faults(seed, 120, 3)
    assert [fault.at_s for fault in faults] == sorted(fault.at_s for fault in faults)
    assert sum(fault.lasts_s >= LONG_S for fault in faults) == 1
    assert faults[-1].at_s < 120
    assert {fault.who for fault in faults} >= {Who.ENGINE}
    assert len(faults) > 20


def test_a_single_broker_is_left_alone() -> None:
    assert all(fault.who is not Who.BROKER for seed in range(20) for fault in plan_faults(seed, 120, 1))


def test_every_kind_of_fault_comes_up() -> None:
    found = {(fault.who, fault.kind) for seed in range(20) for fault in plan_faults(seed, 120, 3)}
    assert found == {(who, kind) for who in Who for kind in Kind}


COMPLETED = {"closed": "order-1", "run_id": "r", "status": "completed", "key": "r/1"}
CANCELLED = {"closed": "order-1", "run_id": "r", "status": "cancelled", "key": ""}


@pytest.mark.parametrize(
    ("line", "ledger", "said"),
    [
        (COMPLETED, "charge order-1 r/1\ncharge order-1 r/1\ndeliver order-1 r/2\n", ""),
        (COMPLETED, "charge order-1 r/1\n", "deliver was done under 0 keys"),
        (
            COMPLETED,
            "charge order-1 r/1\ncharge order-1 r/9\ndeliver order-1 r/2\n",
            "charge was done under 2 keys",
        ),
        (COMPLETED, "charge order-1 r/7\ndeliver order-1 r/2\n", "its result is 'r/1'"),
        (
            COMPLETED,
            "charge order-1 r/1\ndeliver order-1 r/2\nrefund order-1 r/3\n",
            "refund was done under 1 keys",
        ),
        (CANCELLED, "charge order-1 r/1\nrefund order-1 r/2\n", ""),
        (CANCELLED, "", ""),
        (CANCELLED, "charge order-1 r/1\n", "never refunded"),
        (
            CANCELLED,
            "charge order-1 r/1\nrefund order-1 r/2\nrefund order-1 r/3\n",
            "refund was done under 2 keys",
        ),
        ({**COMPLETED, "status": "failed"}, "", "has ended as failed"),
        (
            {"refused": "order-1/start", "code": "already_started", "message": "no"},
            "",
            "was refused (already_started)",
        ),
        ({"refused": "order-1/confirm-1", "code": "closed", "message": "no"}, "", ""),
    ],
)
def test_what_was_done_outside_fits_what_the_order_came_to(
    tmp_path: Path, line: dict[str, str], ledger: str, said: str
) -> None:
    (tmp_path / "ledger").write_text(ledger)
    (tmp_path / "journal").write_text(json.dumps(line) + "\n")
    violations, counts = check_ledger(tmp_path / "ledger", tmp_path / "journal")
    assert bool(violations) == bool(said), violations
    assert not said or any(said in each.message for each in violations), violations
    assert counts["ledger_lines"] == len(ledger.splitlines())
