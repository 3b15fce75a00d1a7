"""The rules of the group protocol that every consumer keeps, and the table of a partition's
life."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import TopicPartition

from perdure.adapters.kafka.clients import partition_state
from perdure.adapters.kafka.clients.group_member import GroupMember
from perdure.adapters.kafka.clients.partition_state import (
    TRANSITIONS,
    Assignment,
    PartitionEvent,
    PartitionState,
)
from tests.unit.log.kafka.stand_ins import Member

A, B = ("shop.orders", 0), ("shop.orders", 1)
S, E = PartitionState, PartitionEvent


def partitions(*places: tuple[str, int]) -> list[TopicPartition]:
    return [TopicPartition(*each) for each in places]


class Joined:
    """A member, its consumer, and what it noted: state and generation of each assignment when it
    was called."""

    def __init__(self, *places: tuple[str, int], **options: Any) -> None:
        self.consumer: Any = Member()
        self.revoked: list[tuple[PartitionState, int]] = []
        self.lost: list[tuple[PartitionState, int]] = []
        self.member = GroupMember(on_revoked=self._on_revoked, on_lost=self._on_lost, **options)
        self.member.subscribe(self.consumer, ["shop.orders"])
        self.assign(*places)

    def assign(self, *places: tuple[str, int]) -> None:
        self.consumer.on_assign(self.consumer, partitions(*places))

    def revoke(self, *places: tuple[str, int]) -> None:
        self.consumer.on_revoke(self.consumer, partitions(*places))

    def lose(self, *places: tuple[str, int]) -> None:
        self.consumer.on_lost(self.consumer, partitions(*places))

    def _on_revoked(self, assignments: list[Assignment]) -> None:
        assert all(each.place in self.member.partitions.owned for each in assignments), (
            "so that their offsets can be committed"
        )
        self.revoked += [(each.state, each.generation) for each in assignments]

    def _on_lost(self, assignments: list[Assignment]) -> None:
        self.lost += [(each.state, each.generation) for each in assignments]

    @property
    def calls(self) -> list[str]:
        return [name for name, _ in self.consumer.calls]


# ---- the protocol


def test_new_partition_is_assigned_from_offset_zero_and_then_paused() -> None:
    """From its committed offset the client would wait for a dead owner's transaction; a pause
    before the assignment does nothing."""
    joined = Joined(A, B)
    assert joined.consumer.calls == [
        ("incremental_assign", [(0, 0), (1, 0)]),
        ("pause", [(0, -1001), (1, -1001)]),
    ]
    assert set(joined.member.partitions.assigned) == {A, B}


def test_partition_is_resumed_before_it_is_sought() -> None:
    joined = Joined(A)
    joined.consumer.calls.clear()
    joined.member.begin(A, 42)
    assert joined.consumer.calls == [("resume", [(0, -1001)]), ("seek", [(0, 42)])]
    assert set(joined.member.partitions.live) == {A}


def test_partition_that_was_held_when_it_went_is_resumed_when_it_comes_back() -> None:
    joined = Joined(A, is_paused_at_first=False)
    joined.member.hold([A])
    joined.revoke(A)
    joined.assign(A)
    assert joined.calls[-2:] == ["incremental_unassign", "incremental_assign"], (
        "the client still has it paused"
    )
    joined.member.resume([A])
    assert joined.calls[-1] == "resume"


def test_partition_is_revoked_before_it_is_unassigned() -> None:
    joined = Joined(A, B)
    joined.member.begin(B, 1)
    joined.revoke(B)
    assert joined.revoked == [(S.LIVE, 2)]
    assert joined.calls[-1] == "incremental_unassign"
    assert (
        set(joined.member.partitions.owned),
        set(joined.member.partitions.live),
        joined.member.partitions.generation_of(B),
    ) == ({A}, set(), 0)


def test_partition_that_was_lost_is_noted_as_lost() -> None:
    joined = Joined(A)
    joined.lose(A)
    assert (joined.revoked, joined.lost) == ([], [(S.ASSIGNED, 1)])


def test_each_assignment_has_a_generation_of_its_own() -> None:
    joined = Joined(A)
    joined.revoke(A)
    joined.assign(B, A)
    assert [joined.member.partitions.generation_of(each) for each in (A, B)] == [3, 2]


def test_member_of_an_eager_group_loses_all_partitions_in_each_rebalance() -> None:
    joined = Joined(A, B, is_cooperative=False)
    joined.member.begin(A, 1)
    joined.revoke(A)
    assert joined.revoked == [(S.LIVE, 1), (S.ASSIGNED, 2)]
    assert joined.calls == ["assign", "pause", "resume", "seek", "unassign"]
    joined.assign(B)
    joined.assign(A)
    assert set(joined.member.partitions.owned) == {A}


def test_partitions_that_no_group_shares_out_are_read_like_others() -> None:
    consumer: Any = Member()
    member = GroupMember(is_cooperative=False)
    member.adopt(consumer, partitions(A))
    member.begin(A, 3)
    assert [name for name, _ in consumer.calls] == ["assign", "pause", "resume", "seek"]


# ---- what fences


def test_group_metadata_is_read_in_each_rebalance_even_if_nothing_changes() -> None:
    joined = Joined(A)
    assert joined.member.metadata == "metadata of member"
    joined.consumer.id = "another"
    joined.consumer.calls.clear()
    joined.assign()
    assert joined.member.metadata == "metadata of another"
    assert joined.consumer.calls == [("incremental_assign", [])], "no partition is touched"


def test_metadata_without_a_member_id_cannot_fence_and_is_not_used() -> None:
    joined = Joined(A)
    joined.consumer.id = ""
    joined.member.refresh_metadata()
    assert joined.member.metadata is None


# ---- the table


def test_partition_that_went_cannot_be_noted_or_resumed() -> None:
    joined = Joined(A)
    joined.revoke(A)
    assert joined.member.partitions.state_of(A) is S.REVOKED
    with pytest.raises(KeyError):
        joined.member.partitions.note(A, E.HANDED_OVER)


def test_event_that_cannot_happen_in_a_state_is_an_error_and_changes_nothing() -> None:
    joined = Joined(A)
    with pytest.raises(KeyError):
        joined.member.partitions.note(A, E.RESTORED)
    assert (joined.member.partitions.state_of(A), joined.member.partitions.in_state(S.ASSIGNED)) == (
        S.ASSIGNED,
        [A],
    )


WAYS: dict[PartitionState, list[PartitionEvent]] = {
    S.ASSIGNED: [],
    S.RESTORING: [E.HANDED_OVER],
    S.RESTORED: [E.HANDED_OVER, E.RESTORED],
    S.LIVE: [E.RESUMED],
    S.HELD: [E.HELD],
}


@pytest.mark.parametrize(("state", "event"), TRANSITIONS, ids=lambda each: each.name)
def test_row_of_the_table(state: PartitionState, event: PartitionEvent) -> None:
    """Each row, by the method that takes it: where it leads, what the client does, and that a
    revocation ends the assignment."""
    joined = Joined(A)
    member = joined.member
    for each in WAYS[state]:
        take(joined, each)
    assert member.partitions.state_of(A) is state
    joined.consumer.calls.clear()
    take(joined, event)
    assert member.partitions.state_of(A) is TRANSITIONS[state, event]
    assert joined.calls == CALLS[event]
    assert (A in member.partitions.live, A in member.partitions.assigned) == (
        TRANSITIONS[state, event] is S.LIVE,
        TRANSITIONS[state, event] is S.ASSIGNED,
    )
    assert (A in member.partitions.owned) is (event is not E.REVOKED)


CALLS = {
    E.HANDED_OVER: [],
    E.RESTORED: [],
    E.RESUMED: ["resume"],
    E.HELD: ["pause"],
    E.REWOUND: ["pause"],
    E.REVOKED: ["incremental_unassign"],
}


def take(joined: Joined, event: PartitionEvent) -> None:
    match event:
        case E.RESUMED:
            joined.member.resume([A])
        case E.HELD:
            joined.member.hold([A])
        case E.REWOUND:
            joined.member.rewind([A])
        case E.REVOKED:
            joined.revoke(A)
        case _:
            joined.member.partitions.note(A, event)


def test_every_state_can_end_and_nothing_leads_out_of_the_end() -> None:
    begins = {state for state, _ in TRANSITIONS}
    assert set(PartitionState) - begins == {S.REVOKED}
    assert all(TRANSITIONS[state, E.REVOKED] is S.REVOKED for state in begins)


def test_table_is_drawn_in_the_docstring_of_its_module() -> None:
    assert all(state.name in (partition_state.__doc__ or "") for state in PartitionState)


def test_member_whose_client_has_no_metadata_is_no_member() -> None:
    """The client raises when its member id went between the rebalance and the callback."""
    joined = Joined(A)
    assert joined.member.metadata is not None

    def none_available() -> Any:
        raise RuntimeError("Consumer group metadata not available")

    joined.consumer.consumer_group_metadata = none_available
    joined.assign(B)
    assert joined.member.metadata is None
    assert set(joined.member.partitions.owned) == {A, B}
