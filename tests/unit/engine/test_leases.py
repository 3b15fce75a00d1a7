"""An attempt that is not heard of for a whole lease is lost."""

from __future__ import annotations

import pytest

from perdure.engine.leases import LEASE_US, Leases
from perdure.model.commands import ExpireLease, HeartbeatActivity, StartActivity

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


def test_it_is_looked_at_once_a_second_for_there_may_be_many(leases: Leases) -> None:
    assert leases.expired(NOW + LEASE_US - 1) == []
    assert leases.expired(NOW + LEASE_US) == [], "it was looked at a moment ago"
    assert leases.next_at() == NOW + LEASE_US - 1 + 1_000_000
    assert leases.expired(NOW + LEASE_US - 1 + 1_000_000) != []


def test_each_attempt_has_its_own(leases: Leases) -> None:
    leases.renew(StartActivity("order-2", number=1, token="t-2", worker="w"), "run-2", NOW + 1_000_000)
    assert [command.token for command in leases.expired(NOW + LEASE_US)] == ["t-1"]
    assert leases.next_at() == NOW + LEASE_US + 1_000_000
