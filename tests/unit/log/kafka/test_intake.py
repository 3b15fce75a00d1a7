"""The commands that a Kafka engine takes, covers by a commit, and sets aside."""

from __future__ import annotations

import time
from typing import Any

import pytest

from perdure.adapters.kafka.engine import pending_commands as module
from perdure.adapters.kafka.engine.pending_commands import (
    DeadLettered,
    Forwarded,
    Padding,
    PendingCommands,
    Rerouted,
)
from perdure.adapters.kafka.padding import KEY
from perdure.codec.avro import COMMANDS
from perdure.model.commands import AnyCommand, SignalWorkflow
from tests.unit.log.kafka.stand_ins import Found, schema

OURS, ALSO_OURS, THEIRS = 0, 1, 2


def place_of(workflow_id: str) -> int:
    """The number before the dash."""
    return int(workflow_id.partition("-")[0])


def signal(workflow_id: str, name: str = "go") -> SignalWorkflow:
    return SignalWorkflow(workflow_id, name=name, request_id=name)


def found(offset: int, workflow_id: str = "0-w", name: str = "", partition: int = OURS) -> Any:
    value = COMMANDS.encode(signal(workflow_id, name or f"s{offset}"))
    return Found("ns.commands", partition, offset, key=b"k", value=value, headers=schema(COMMANDS.header))


def names(commands: list[AnyCommand]) -> list[str]:
    return [each.name for each in commands if isinstance(each, SignalWorkflow)]


@pytest.fixture
def pending() -> PendingCommands:
    made = PendingCommands(place_of)
    made.gain(OURS, 5)
    made.gain(ALSO_OURS, 0)
    return made


def too_large(pending: PendingCommands) -> None:
    """The effects of the taken commands are larger than Kafka accepts."""
    pending.note_too_large()
    pending.abort()


def test_records_before_the_committed_offset_and_those_that_come_twice_are_dropped(
    pending: PendingCommands,
) -> None:
    pending.put_records([found(4), found(5), found(6), found(5), found(6), found(7)])
    assert names(pending.take(10)) == ["s5", "s6", "s7"]


def test_the_age_of_a_command_is_that_of_its_record(
    pending: PendingCommands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 41.7)
    pending.put_records([found(5)])  # written at 1.7 s
    (old,) = pending.take(10)
    assert pending.age_s(old) == 40.0
    assert pending.age_s(signal("0-w")) == 0.0, "of this process: not known"


def test_records_of_a_partition_that_is_not_ours_are_dropped(pending: PendingCommands) -> None:
    pending.put_records([found(0, "2-w", partition=THEIRS)])
    assert not pending.has_ready


def test_a_commit_covers_what_was_taken_and_nothing_behind_it(pending: PendingCommands) -> None:
    assert (pending.offset_of(OURS), pending.last_offset(OURS)) == (5, 4)
    pending.put_records([found(5), found(7), found(8), found(3, "1-w", partition=ALSO_OURS)])
    assert names(pending.take(2)) == ["s5", "s7"]
    assert pending.covered == {OURS: 8}
    assert (pending.offset_of(OURS), pending.last_offset(OURS)) == (8, 7)
    assert (pending.offset_of(ALSO_OURS), pending.last_offset(ALSO_OURS)) == (0, -1)
    pending.settle()
    assert (pending.covered, pending.has_taken) == ({}, False)
    assert (pending.offset_of(OURS), pending.last_offset(OURS)) == (8, 7), "it is committed"


def test_an_abort_takes_the_offsets_back_and_hands_out_again_in_order_before_what_is_newer(
    pending: PendingCommands,
) -> None:
    pending.put_records([found(5), found(6)])
    pending.put_local([signal("0-w", "local")])
    assert names(pending.take(10)) == ["s5", "s6", "local"]
    pending.put_records([found(7)])
    pending.abort()
    assert (pending.offset_of(OURS), pending.last_offset(OURS), pending.has_taken) == (5, 4, False)
    assert names(pending.take(10)) == ["s5", "s6", "local", "s7"]


def test_a_lost_partition_takes_its_records_along_and_leaves_the_others(pending: PendingCommands) -> None:
    pending.put_records([found(5), found(0, "1-w", "other", ALSO_OURS)])
    pending.put_local([signal("0-w", "local")])
    pending.lose([OURS])
    assert set(pending.partitions) == {ALSO_OURS}
    pending.put_records([found(6)])
    assert names(pending.take(10)) == ["other"], (
        "what is of this process goes to the engine that has the partition now"
    )
    assert pending.asides == [(Forwarded(signal("0-w", "local"), OURS), -1, -1, None)]
    assert pending.last_offset(OURS) == -1


def test_what_cannot_be_taken_is_put_aside_with_its_reason_and_covered_all_the_same(
    pending: PendingCommands,
) -> None:
    misplaced = found(5, "1-w")
    tombstone = Found("ns.commands", OURS, 6, key=b"0-w")
    padding = Found("ns.commands", OURS, 7, key=KEY)
    bare = Found("ns.commands", OURS, 8, key=b"0-w", value=b"{}")
    newer = Found(
        "ns.commands", OURS, 9, key=b"0-w", value=b"?", headers=[("perdure-schema", b"commands/9/ab")]
    )
    pending.put_records([misplaced, tombstone, padding, bare, newer, found(10)])
    assert names(pending.take(10)) == ["s10"]
    asides = [entry[0] for entry in pending.asides]
    assert [type(each) for each in asides] == [Rerouted, DeadLettered, Padding, DeadLettered, DeadLettered]
    assert asides[0] == Rerouted("1-w", ALSO_OURS)
    assert [each.reason for each in asides if isinstance(each, DeadLettered)] == [
        "undecodable",
        "undecodable",
        "unknown_schema",
    ]
    assert [(entry[1], entry[2], entry[3]) for entry in pending.asides[:2]] == [
        (OURS, 5, misplaced),
        (OURS, 6, tombstone),
    ]
    assert pending.covered == {OURS: 11}
    pending.settle()
    assert pending.asides == []


def test_the_header_of_the_schema_is_found_behind_others(pending: PendingCommands) -> None:
    record = Found(
        "ns.commands", OURS, 5, value=COMMANDS.encode(signal("0-w")), headers=[("a", b"b"), COMMANDS.header]
    )
    pending.put_records([record])
    assert names(pending.take(1)) == ["go"]


def test_a_batch_holds_so_many_bytes_and_the_next_one_the_rest(
    pending: PendingCommands, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [found(offset) for offset in (5, 6, 7, 8)]
    monkeypatch.setattr(module, "BATCH_BYTES", len(records[0]) + 1)
    pending.put_records(records)
    assert names(pending.take(10)) == ["s5", "s6"]
    assert pending.take(10) == [], "the batch is full until it is committed"
    pending.settle()
    assert names(pending.take(10)) == ["s7", "s8"]


def test_after_a_batch_that_was_too_large_commands_are_taken_one_by_one_as_many_as_it_had(
    pending: PendingCommands,
) -> None:
    pending.put_records([found(offset) for offset in (5, 6, 7, 8)])
    assert len(pending.take(3)) == 3
    too_large(pending)
    for name in ("s5", "s6", "s7"):
        assert names(pending.take(10)) == [name]
        assert pending.take(10) == [], "nothing joins it"
        pending.settle()
    pending.put_records([found(9)])
    assert names(pending.take(10)) == ["s8", "s9"]


def test_a_command_that_is_too_large_alone_becomes_a_dead_letter_and_the_next_is_taken(
    pending: PendingCommands,
) -> None:
    pending.put_records([found(5), found(6)])
    pending.take(10)
    too_large(pending)
    assert names(pending.take(10)) == ["s5"]
    too_large(pending)
    assert names(pending.take(10)) == ["s6"]
    record: Any
    ((letter, partition, offset, record),) = pending.asides
    assert (letter.reason, letter.is_cut, partition, offset, record.offset()) == (
        "oversized",
        False,
        OURS,
        5,
        5,
    )
    assert pending.covered == {OURS: 7}


def test_a_dead_letter_that_is_too_large_itself_keeps_its_reason_and_loses_its_value(
    pending: PendingCommands,
) -> None:
    pending.put_records([Found("ns.commands", OURS, 5, key=b"k", value=b"x")])
    for _ in range(2):
        assert pending.take(1) == []
        too_large(pending)
    assert pending.take(1) == []
    ((letter, *_),) = pending.asides
    assert (letter.reason, letter.is_cut) == ("undecodable", True)


def test_an_in_process_command_that_is_too_large_is_not_retried_for_ever(pending: PendingCommands) -> None:
    pending.put_local([signal("0-w")])
    for _ in range(2):
        assert len(pending.take(1)) == 1
        too_large(pending)
    assert not pending.has_ready


def test_who_was_fenced_forgets_the_partitions_and_keeps_what_is_of_this_process(
    pending: PendingCommands,
) -> None:
    pending.put_records([found(5), found(6)])
    pending.put_local([signal("0-w", "local")])
    pending.take(1)
    pending.forget()
    assert (set(pending.partitions), pending.covered, pending.waiting) == (set(), {}, 1)
    pending.gain(OURS, 5)
    pending.put_records([found(5), found(6)])
    assert names(pending.take(10)) == ["local", "s5", "s6"]
