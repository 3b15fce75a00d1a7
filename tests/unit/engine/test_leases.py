"""An attempt without a heartbeat for a whole lease is lost."""

from __future__ import annotations

import pytest

from perdure.engine.leases import AT_ONCE, EXPECTED_US, LEASE_US, Leases
from perdure.model.commands import ExpireLease, HeartbeatActivity, StartActivity
from perdure.model.tasks import Task

NOW = 1_000_000_000


@pytest.fixture
def leases() -> Leases:
    found = Leases()
    found.renew(StartActivity("order-1", number=1, token="t-1", worker="w"), "run-1", NOW)
    return found


def test_silence_for_a_whole_lease_expires_it_once(leases: Leases) -> None:
    assert leases.next_at() == NOW + LEASE_US
    assert leases.expired(NOW + LEASE_US - 1_000_001) == []
    assert leases.expired(NOW + LEASE_US) == [ExpireLease("order-1", "run-1", number=1, token="t-1")]
    assert leases.expired(NOW + 9 * LEASE_US) == []
    assert leases.next_at() is None


def test_a_heartbeat_renews_it(leases: Leases) -> None:
    leases.renew(HeartbeatActivity("order-1", number=1, token="t-1"), "run-1", NOW + LEASE_US - 1)
    assert leases.expired(NOW + LEASE_US) == []
    assert leases.expired(NOW + 2 * LEASE_US) != []


def test_an_attempt_that_has_reported_is_not_waited_for(leases: Leases) -> None:
    leases.end("t-1")
    leases.end("t-1")
    assert leases.next_at() is None
    assert leases.expired(NOW + LEASE_US) == []


def test_leases_are_checked_once_a_second(leases: Leases) -> None:
    assert leases.expired(NOW + LEASE_US - 1) == []
    assert leases.expired(NOW + LEASE_US) == [], "it was looked at a moment ago"
    assert leases.next_at() == NOW + LEASE_US - 1 + 1_000_000
    assert leases.expired(NOW + LEASE_US - 1 + 1_000_000) != []


def test_each_attempt_has_its_own(leases: Leases) -> None:
    leases.renew(StartActivity("order-2", number=1, token="t-2", worker="w"), "run-2", NOW + 1_000_000)
    assert [command.token for command in leases.expired(NOW + LEASE_US)] == ["t-1"]
    assert leases.next_at() == NOW + LEASE_US + 1_000_000


def test_after_a_restart_an_attempt_without_heartbeats_expires_later(leases: Leases) -> None:
    task = Task("order-2", "run-2", 3, 1, "t-2", "charge", "default", b"[]", 1, "key", 0)
    leases.expect(task, NOW)
    leases.renew(HeartbeatActivity("order-1", number=1, token="t-1"), "run-1", NOW + EXPECTED_US)
    assert leases.expired(NOW + EXPECTED_US - 1) == []
    assert leases.expired(NOW + EXPECTED_US + 1_000_000) == [
        ExpireLease("order-2", "run-2", number=3, token="t-2")
    ]


def test_a_heartbeat_counts_for_more_than_what_was_expected(leases: Leases) -> None:
    leases.expect(Task("order-1", "run-1", 1, 1, "t-1", "charge", "default", b"[]", 1, "key", 0), NOW)
    assert leases.next_at() == NOW + LEASE_US


def test_many_expire_little_by_little(leases: Leases) -> None:
    for number in range(AT_ONCE + 5):
        leases.expect(
            Task("w", "run", number, 1, f"many-{number}", "charge", "default", b"[]", 1, "key", 0), NOW
        )
    leases.end("t-1")
    assert len(leases.expired(NOW + EXPECTED_US)) == AT_ONCE
    assert len(leases.expired(NOW + EXPECTED_US + 1_000_000)) == 5
