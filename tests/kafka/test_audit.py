"""The audit trail of a namespace is a topic."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from perdure.adapters.kafka.admin.audit import KafkaAuditTrail
from perdure.adapters.kafka.namespace.topics import AUDIT, name_of
from perdure.errors import InfrastructureError
from tests.contract.audit_suite import (
    assert_concurrent_entries_are_all_stored,
    assert_it_is_closed_twice,
    assert_latest_come_first_page_by_page,
    entry,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kafka.namespace import Namespace


@pytest.fixture
def trail(namespace: Namespace) -> Iterator[KafkaAuditTrail]:
    topic = name_of(namespace.name, AUDIT)
    namespace.create({topic: 1})
    until = time.monotonic() + 10
    # made, and not yet told to everybody
    while namespace.admin.list_topics(topic, 10).topics[topic].error is not None:
        assert time.monotonic() < until
    trail = KafkaAuditTrail(namespace.name, {"bootstrap.servers": namespace.bootstrap})
    yield trail
    trail.close()


def test_the_latest_come_first_page_by_page(trail: KafkaAuditTrail) -> None:
    assert_latest_come_first_page_by_page(trail)


def test_concurrent_entries_are_all_stored(trail: KafkaAuditTrail) -> None:
    assert_concurrent_entries_are_all_stored(trail)


def test_it_is_closed_twice(trail: KafkaAuditTrail) -> None:
    assert_it_is_closed_twice(trail)


def test_without_its_topic_it_says_how_to_make_it(kafka: str) -> None:
    trail = KafkaAuditTrail("nowhere", {"bootstrap.servers": kafka})
    with pytest.raises(InfrastructureError, match=name_of("nowhere", AUDIT)):
        trail.append([entry(1)])
    with pytest.raises(InfrastructureError, match="topics apply"):
        trail.entries(1)
    trail.close()
