"""Engine flags: recorded at the start, and a run with one that is not known here waits for the
version that knows it."""

from __future__ import annotations

import pytest

from perdure.core import flags
from perdure.core.flags import Flag, UnknownFlagsError
from perdure.core.start import started_event
from perdure.model import commands as cm


def test_a_run_that_starts_now_has_every_flag() -> None:
    started = started_event(cm.StartWorkflow("order-1", type="Order"), 1, 7, 311)
    assert all(flags.has(started.flags, flag) for flag in Flag)
    flags.check(started.flags)


def test_a_run_from_before_flags_has_none_and_is_taken() -> None:
    assert not any(flags.has(0, flag) for flag in Flag)
    flags.check(0)


def test_a_flag_is_the_bit_of_its_number() -> None:
    assert flags.bits_of([Flag.RECORDED]) == 0b1
    assert flags.has(0b1, Flag.RECORDED)
    assert not flags.has(0b10, Flag.RECORDED)


def test_no_number_is_used_twice_and_all_fit_a_long() -> None:
    numbers = [member.value for member in Flag.__members__.values()]
    assert len(set(numbers)) == len(numbers)
    assert all(1 <= number <= 63 for number in numbers)


def test_a_flag_of_a_newer_version_is_named() -> None:
    with pytest.raises(UnknownFlagsError, match=r"newer version of perdure.*flags 5, 63\)"):
        flags.check(flags.CURRENT | 1 << 4 | 1 << 62)
