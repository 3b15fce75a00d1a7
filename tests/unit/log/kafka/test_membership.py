"""The bookkeeping of an engine's partitions during rebalances."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import TopicPartition

from perdure.adapters.kafka.engine.membership import Membership
from tests.unit.log.kafka.stand_ins import Member


@pytest.fixture
def consumer() -> Any:
    return Member()


@pytest.fixture
def membership(consumer: Any) -> Membership:
    """Partitions 0 and 1 were just assigned."""
    made = Membership("ns.commands")
    made.subscribe(consumer)
    assigned(consumer, 0, 1)
    return made


def places(*numbers: int) -> list[TopicPartition]:
    return [TopicPartition("ns.commands", number) for number in numbers]


def assigned(consumer: Any, *numbers: int) -> None:
    consumer.on_assign(consumer, places(*numbers))


def revoked(consumer: Any, *numbers: int) -> None:
    consumer.on_revoke(consumer, places(*numbers))


def served(membership: Membership, partition: int, generation: int, offset: int = 5) -> None:
    membership.note_restored([(partition, generation)])
    membership.serve(partition, offset)


def test_new_partition_is_handed_over_once_and_live_when_it_is_served(
    membership: Membership, consumer: Any
) -> None:
    news = [membership.has_news]
    assert membership.hand_over() == ([], [(0, 1), (1, 2)])
    assert [*news, membership.has_news] == [True, False]
    assert membership.live == set()
    consumer.calls.clear()
    served(membership, 1, 2, offset=42)
    assert membership.live == {1}
    assert consumer.calls == [("resume", [(1, -1001)]), ("seek", [(1, 42)])]


def test_partition_that_comes_back_has_another_generation_and_its_first_restore_is_stale(
    membership: Membership, consumer: Any
) -> None:
    membership.hand_over()
    revoked(consumer, 0)
    assigned(consumer, 0)
    assert membership.hand_over() == ([(0, 1)], [(0, 3)])
    membership.note_restored([(0, 1), (1, 2)])
    assert [membership.is_restored(*each) for each in ((0, 1), (0, 3), (1, 2))] == [False, False, True]
    membership.note_restored([(0, 3)])
    assert membership.is_restored(0, 3)


def test_partition_revoked_before_it_was_handed_over_is_not_restored(
    membership: Membership, consumer: Any
) -> None:
    revoked(consumer, 0, 1)
    assert not membership.has_news
    assigned(consumer, 1)
    assert membership.hand_over() == ([], [(1, 3)])


def test_losses_are_reported_to_the_engine_if_live_and_to_the_takeover_if_restoring(
    membership: Membership, consumer: Any
) -> None:
    membership.hand_over()
    served(membership, 0, 1)
    revoked(consumer, 0, 1)
    assert membership.live == set()
    assert membership.has_news
    assert [membership.take_gone(), membership.take_gone()] == [{0}, set()]
    assert membership.hand_over() == ([(1, 2)], [])


def test_takeover_closes_the_store_of_a_restored_partition_that_went_before_its_claim(
    membership: Membership, consumer: Any
) -> None:
    membership.hand_over()
    membership.note_restored([(0, 1)])
    revoked(consumer, 0)
    assert not membership.is_restored(0, 1)
    assert membership.hand_over() == ([(0, 1)], [])


def test_closing_the_consumer_gives_up_all_partitions(membership: Membership) -> None:
    membership.hand_over()
    served(membership, 0, 1)
    membership.forget()
    assert (membership.live, membership.take_gone()) == (set(), {0})
    assert membership.hand_over() == ([(1, 2)], [])
