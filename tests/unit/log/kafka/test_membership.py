"""What an engine knows of its partitions while a group deals them out."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import TopicPartition

from perdure.adapters.kafka.engine.membership import Membership


class Member:
    """A consumer; `id` is empty while it is no member."""

    def __init__(self) -> None:
        self.id = "member"
        self.calls: list[tuple[str, list[tuple[int, int]]]] = []

    def __getattr__(self, name: str) -> Any:
        def note(given: list[TopicPartition] | TopicPartition) -> None:
            partitions = [given] if isinstance(given, TopicPartition) else given
            self.calls.append((name, [(each.partition, each.offset) for each in partitions]))

        return note

    def memberid(self) -> str:
        return self.id

    def consumer_group_metadata(self) -> str:
        return f"metadata of {self.id}"


@pytest.fixture
def member() -> Any:
    return Member()


@pytest.fixture
def membership(member: Any) -> Membership:
    made = Membership("ns.commands")
    assigned(made, member, 0, 1)
    return made


def places(*numbers: int) -> list[TopicPartition]:
    return [TopicPartition("ns.commands", number) for number in numbers]


def assigned(membership: Membership, member: Any, *numbers: int) -> None:
    membership._assigned(member, places(*numbers))


def test_a_partition_that_comes_is_paused_and_not_live_before_it_is_served(membership: Membership, member: Any) -> None:
    assert [name for name, _ in member.calls] == ["incremental_assign", "pause"]
    assert (membership.live, membership.restoring, membership.fresh) == (set(), {0: 1, 1: 2}, [(0, 1), (1, 2)])
    assert membership.metadata == "metadata of member"
    assert membership.has_news
    member.calls.clear()
    membership.serve(member, 1, 42)
    assert (membership.live, membership.restoring) == ({1}, {0: 1})
    assert [name for name, _ in member.calls] == ["resume", "seek"]
    assert member.calls[1][1] == [(1, 42)]


def test_a_partition_that_comes_again_has_another_generation(membership: Membership, member: Any) -> None:
    membership._revoked(member, places(0))
    assigned(membership, member, 0)
    assert membership.restoring == {1: 2, 0: 3}
    assert membership.dropped == [(0, 1)], "the restore of the first time is stale"


def test_a_live_partition_that_goes_is_told_to_the_engine_and_one_that_was_restored_to_the_takeover(
    membership: Membership, member: Any
) -> None:
    membership.serve(member, 0, 5)
    membership._revoked(member, places(0, 1))
    assert (membership.live, membership.restoring) == (set(), {})
    assert (membership.gone, membership.dropped) == ({0}, [(1, 2)])


def test_a_rebalance_that_brings_nothing_takes_the_groups_word_and_touches_no_partition(
    membership: Membership, member: Any
) -> None:
    member.id = "another"
    member.calls.clear()
    assigned(membership, member)
    assert membership.metadata == "metadata of another"
    assert [name for name, _ in member.calls] == ["incremental_assign"]


def test_without_a_member_id_there_is_nothing_to_fence_with(membership: Membership, member: Any) -> None:
    member.id = ""
    membership.refresh(member)
    assert membership.metadata is None


def test_who_closes_the_consumer_gives_up_all_of_them(membership: Membership, member: Any) -> None:
    membership.serve(member, 0, 5)
    membership.forget()
    assert (membership.live, membership.restoring, membership.gone, membership.dropped) == (set(), {}, {0}, [(1, 2)])
