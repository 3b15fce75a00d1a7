"""Time continues from the last stamp, whatever the time of day does; and a moment of nonsense
leaves no trace."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.engine.hybrid_clock import BELIEVED_AFTER_US, JUMP_US, HybridClock

S = 1_000_000
DAY = 86_400 * S
NOW = 1_800_000_000 * S


class Clock:
    """A machine's clocks: `day` is set by anybody, `steady` by nobody."""

    def __init__(self) -> None:
        self.day = NOW
        self.steady = 5 * S

    def pass_(self, us: int) -> None:
        self.day += us
        self.steady += us

    def now(self) -> int:
        return self.day

    def elapsed(self) -> int:
        return self.steady


class Machine:
    def __init__(self) -> None:
        self.clock = Clock()
        self.warnings: list[str] = []
        self.restart(0)

    def restart(self, on_record: int) -> None:
        def warn(message: str, /, **_: str | int) -> None:
            self.warnings.append(message)

        self.time = HybridClock(self.clock, warn)
        self.time.raise_to(on_record)


@pytest.fixture
def machine() -> Machine:
    found = Machine()
    assert found.time.now() == NOW
    return found


def test_the_time_of_day_is_followed(machine: Machine) -> None:
    machine.clock.pass_(7 * S)
    assert machine.time.now() == NOW + 7 * S
    machine.clock.day += JUMP_US  # a step of NTP
    assert machine.time.now() == NOW + 7 * S + JUMP_US
    assert machine.time.ahead_us == 0
    assert not machine.warnings


def test_a_clock_that_steps_back_delays_no_timer(machine: Machine) -> None:
    machine.clock.day -= 2 * DAY
    machine.clock.pass_(10 * S)
    assert machine.time.now() == NOW + 10 * S
    machine.clock.pass_(60 * S)
    assert machine.time.now() == NOW + 70 * S
    assert machine.time.ahead_us == 2 * DAY
    assert len(machine.warnings) == 1, "said once"


def test_a_clock_that_is_ahead_for_ten_seconds_has_no_effect(machine: Machine) -> None:
    machine.clock.day += 2 * DAY
    for _ in range(10):
        machine.clock.pass_(S)
        machine.time.now()
    assert machine.time.last == NOW + 10 * S
    machine.clock.day -= 2 * DAY
    machine.clock.pass_(S)
    assert machine.time.now() == NOW + 11 * S
    assert machine.time.ahead_us == 0
    assert len(machine.warnings) == 1


def test_a_forward_jump_that_lasts_is_followed(machine: Machine) -> None:
    machine.clock.day += 2 * DAY
    machine.time.now()
    machine.clock.pass_(BELIEVED_AFTER_US - 1)
    assert machine.time.now() == NOW + BELIEVED_AFTER_US - 1
    machine.clock.pass_(1)
    assert machine.time.now() == NOW + 2 * DAY + BELIEVED_AFTER_US


def test_two_jumps_are_not_one_that_stays(machine: Machine) -> None:
    machine.clock.day += 2 * DAY
    machine.time.now()
    machine.clock.day -= 2 * DAY
    machine.clock.pass_(BELIEVED_AFTER_US)
    machine.time.now()
    machine.clock.day += 2 * DAY
    machine.clock.pass_(S)
    assert machine.time.now() == NOW + BELIEVED_AFTER_US + S


def test_a_restart_continues_from_the_last_recorded_stamp(machine: Machine) -> None:
    machine.restart(NOW + 2 * DAY)
    assert machine.time.now() == NOW + 2 * DAY
    machine.clock.pass_(60 * S)
    assert machine.time.now() == NOW + 2 * DAY + 60 * S
    assert len(machine.warnings) == 1
    machine.restart(machine.time.last)
    machine.clock.pass_(S)
    assert machine.time.now() == NOW + 2 * DAY + 61 * S


def test_after_a_long_stop_the_time_of_day_is_trusted(machine: Machine) -> None:
    machine.restart(NOW)
    assert machine.time.now() == NOW
    machine.restart(NOW)
    machine.clock.pass_(30 * DAY)
    assert machine.time.now() == NOW + 30 * DAY


def test_a_sleep_of_the_machine_is_not_a_jump(machine: Machine) -> None:
    machine.clock.pass_(8 * 3_600 * S)
    assert machine.time.now() == NOW + 8 * 3_600 * S
    assert not machine.warnings


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400 * S), st.integers(-3 * DAY, 3 * DAY)), max_size=40))
def test_stamps_never_go_back_and_never_stand_still(steps: list[tuple[int, int]]) -> None:
    machine = Machine()
    last = machine.time.now()
    for passed, jump in steps:
        machine.clock.pass_(passed)
        machine.clock.day += jump
        now = machine.time.now()
        assert now >= last + passed, "a timer waits no longer than asked for, by the monotonic clock"
        last = now


def test_an_engine_that_was_down_for_a_day_does_not_take_the_day_for_a_jump(machine: Machine) -> None:
    on_record = machine.time.now()
    machine.clock.pass_(DAY)
    machine.restart(on_record)
    assert machine.time.now() == NOW + DAY
    assert not machine.warnings
