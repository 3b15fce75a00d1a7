"""The machine of one timer of the code."""

from __future__ import annotations

import pytest

from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.timers import Timer, TimerKind
from tests.unit.core.driven import NOW, SECOND, Driven


@pytest.fixture
def run() -> Driven:
    driven = Driven()
    driven.record(ev.TimerStarted(1, NOW + SECOND))
    return driven


def fire(run: Driven) -> list[object]:
    return run.events(cm.FireTimer, number=1)


def test_a_started_timer_is_armed(run: Driven) -> None:
    assert run.state.timers == {1: NOW + SECOND}
    assert run.written.timers == {Timer(NOW + SECOND, "run-1", TimerKind.CODE, 1, "order-1")}


def test_it_never_fires_early(run: Driven) -> None:
    run.at = NOW + SECOND - 1
    assert fire(run) == []


def test_it_fires_when_it_is_due_and_only_once(run: Driven) -> None:
    run.at = NOW + SECOND
    assert fire(run) == [ev.TimerFired(1)]
    assert fire(run) == []
    assert not run.written.timers


def test_one_that_is_due_after_it_was_cancelled_is_ignored(run: Driven) -> None:
    run.record(ev.TimerCancelled(1))
    assert not run.written.timers
    run.at = NOW + 2 * SECOND
    assert fire(run) == []


@pytest.mark.parametrize("event", [ev.TimerFired(1), ev.TimerCancelled(1)])
def test_an_end_of_a_timer_that_is_not_armed_is_a_bug_and_raises(
    event: ev.TimerFired | ev.TimerCancelled,
) -> None:
    with pytest.raises(KeyError):
        Driven().record(event)
