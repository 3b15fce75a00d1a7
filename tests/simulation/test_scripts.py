"""The scripts in `scripts/`, each a story that ends as it is written. `UPDATE_SCRIPTS=1` writes
what came of it instead."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.simulation import script
from tests.simulation.invariants import check_everything
from tests.simulation.world import World, seeded

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))
NAMES = [path.stem for path in SCRIPTS]


def check(world: World) -> None:
    check_everything(world.histories(), world.store_port, world.registry.served, world.payloads)


@pytest.mark.parametrize("path", SCRIPTS, ids=NAMES)
def test_the_scenario_matches_its_script(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    told, world = script.run(text)
    if os.environ.get("UPDATE_SCRIPTS"):
        path.write_text(told, encoding="utf-8")
    else:
        assert told == text
    check(world)


@pytest.mark.parametrize("path", SCRIPTS, ids=NAMES)
def test_the_outcome_is_the_same_when_every_run_is_evicted_after_every_batch(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    cached, evicted = script.run(text)[1], script.run(text, evicts=lambda: True)[1]
    assert evicted.histories() == cached.histories()
    check(evicted)


@pytest.mark.parametrize("path", SCRIPTS, ids=NAMES)
def test_the_outcome_is_the_same_when_runs_are_evicted_at_random(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    dice = seeded(len(text))
    cached, evicted = script.run(text)[1], script.run(text, evicts=lambda: dice.random() < 0.3)[1]
    assert evicted.histories() == cached.histories()
    check(evicted)
