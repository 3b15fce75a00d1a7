"""How many commands of other processes wait in memory, and which of them a commit covers."""

from __future__ import annotations

import pytest

from perdure.adapters.process.channel import Channel
from perdure.adapters.process.external_commands import ExternalCommands
from tests.contract.samples import commands, names


@pytest.fixture
def outside() -> ExternalCommands:
    outside = ExternalCommands(Channel())
    outside.put([*zip((4, 5, 7), commands("x", "y", "z"), strict=True)])
    return outside


def test_those_that_wait_in_memory_leave_less_room(outside: ExternalCommands) -> None:
    assert outside.room(5) == 2
    assert names(outside.take(2)) == ["x", "y"]
    assert outside.room(5) == 4
    outside.settle()
    assert outside.room(5) == 4
    assert names(outside.take(9)) == ["z"]
    assert outside.room(5) == 5


def test_those_of_an_aborted_batch_wait_again(outside: ExternalCommands) -> None:
    assert names(outside.take(2)) == ["x", "y"]
    outside.abort()
    assert outside.room(5) == 2
    assert names(outside.take(9)) == ["x", "y", "z"]
    assert outside.room(5) == 5


def test_those_of_this_process_take_no_room() -> None:
    channel = Channel()
    outside = ExternalCommands(channel)
    channel.submit(commands("a", "b"))
    outside.put([(4, commands("x")[0])])
    assert outside.room(5) == 4
    assert names(outside.take(9)) == ["a", "b", "x"]
    outside.abort()
    assert outside.room(5) == 4
    assert outside.consumed() == 0
    assert names(outside.take(2)) == ["a", "b"]
    assert outside.consumed() == 0, "nothing of another process"


def test_a_commit_covers_those_that_were_taken_and_no_others(outside: ExternalCommands) -> None:
    (first, _) = outside.take(2)
    assert outside.consumed() == 5
    assert outside.position_of(first) == 4
    assert outside.position == 7
    outside.settle()
    assert outside.consumed() == 0


def test_one_that_lost_the_medium_reads_all_of_them_again(outside: ExternalCommands) -> None:
    outside.take(1)
    outside.forget()
    assert (outside.room(5), outside.position, outside.consumed()) == (5, 0, 0)
    assert outside.take(9) == []
