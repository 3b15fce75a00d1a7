"""docs/internals/machines.md shows the transition tables as they are in the code."""

from __future__ import annotations

from perdure.core.registry import MACHINES
from tests.unit.core.diagrams import TARGET, document


def test_drawn_machines_are_current() -> None:
    assert TARGET.read_text() == document(), "run: python -m tests.unit.core.diagrams"


def test_every_transition_of_every_machine_is_drawn() -> None:
    drawn = document()
    for machine in MACHINES:
        for (before, event), after in machine.transitions.items():
            assert any(
                line.startswith(f"    {before.name.lower()} --> {after.name.lower()}: ")
                and event.__name__ in line
                for line in drawn.splitlines()
            )
