"""The machines cover the model, and a gap or an overlap stops the import."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from perdure.core import registry
from perdure.core.machine import Machine
from perdure.model import commands as cm
from perdure.model import events as ev


def table(name: str, *keys: Any) -> tuple[str, dict[Any, str]]:
    return name, dict.fromkeys(keys, name)


def test_every_command_has_a_decision_or_is_handled_by_the_engine() -> None:
    elsewhere = {command for machine in registry.MACHINES for command in machine.handled_elsewhere}
    assert set(registry.DECIDE) | elsewhere == set(get_args(cm.AnyCommand))
    assert not set(registry.DECIDE) & elsewhere


def test_every_event_is_recorded_by_one_machine() -> None:
    assert set(registry.RECORD) == set(get_args(ev.AnyEvent))


def test_a_part_of_the_model_without_a_machine_is_named() -> None:
    with pytest.raises(registry.IncompleteError, match=r"no machine .* has the event TimerFired"):
        registry.merged([table("timer", ev.TimerStarted)], [ev.TimerStarted, ev.TimerFired], "event")


def test_a_part_of_the_model_with_two_machines_is_named_with_both() -> None:
    tables = [table("timer", ev.TimerFired), table("alarm", ev.TimerFired)]
    with pytest.raises(
        registry.IncompleteError, match=r"event TimerFired belongs to two machines, timer and alarm"
    ):
        registry.merged(tables, [ev.TimerFired], "event")


def test_a_rule_for_what_the_model_does_not_have_is_named() -> None:
    with pytest.raises(registry.IncompleteError, match=r"event TimerFired is not in the union"):
        registry.merged([table("timer", ev.TimerFired)], [], "event")


def test_the_table_of_a_machine_has_only_events_that_the_machine_records() -> None:
    for machine in registry.MACHINES:
        assert {event for _, event in machine.transitions} <= set(machine.record), machine.name


def test_what_a_machine_leaves_out_is_empty() -> None:
    machine = Machine(name="empty")
    assert not machine.record
    assert not machine.decide
    assert machine.close is None
