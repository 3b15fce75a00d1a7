"""The size of a batch follows the cost of its commands."""

from __future__ import annotations

from perdure.engine.batch_size import FIRST, BatchSize


def test_it_begins_small_and_grows_while_commands_are_cheap() -> None:
    size = BatchSize(1_000, 0.15)
    assert size.limit == FIRST
    for _ in range(4):
        size.took(size.limit, 20_000)
    assert size.limit == 1_000


def test_slow_commands_make_it_so_small_that_a_batch_takes_its_time_again() -> None:
    size = BatchSize(1_000, 0.15)
    cost_us = 50_000
    for _ in range(10):
        size.took(size.limit, size.limit * cost_us)
    assert size.limit * cost_us <= 2 * 150_000


def test_it_is_never_less_than_one_command() -> None:
    size = BatchSize(1_000, 0.15)
    size.took(1, 2_000_000)
    assert size.limit == 1
    size.took(1, 100)
    assert size.limit == 2


def test_the_many_commands_of_a_batch_that_steps_joined_do_not_make_it_larger() -> None:
    size = BatchSize(1_000, 0.15)
    size.took(10 * FIRST, 200_000)
    assert size.limit == FIRST


def test_without_a_target_it_is_always_the_most() -> None:
    size = BatchSize(1_000, float("inf"))
    size.took(1, 10_000_000)
    assert size.limit == 1_000
