"""A run that was forgotten and brought back is the one it was: histories are the same byte for
byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from perdure.codec.records import encode_event_record
from perdure.engine.processor import Settings
from tests.simulation.invariants import check_everything
from tests.simulation.programs import DEPLOYMENTS
from tests.simulation.scenarios import SCENARIOS, outcome, play
from tests.simulation.world import SETTINGS, World, seeded


def history_bytes(
    name: str, evicts: Callable[[], bool] | None = None, settings: Settings = SETTINGS
) -> dict[tuple[str, str], list[bytes]]:
    world = World(DEPLOYMENTS["first"], settings, checks_fold=True, evicts=evicts)
    play(world, SCENARIOS[name])
    return {
        key: [encode_event_record(record) for record in records] for key, records in world.histories().items()
    }


@pytest.mark.parametrize("name", SCENARIOS)
def test_evicted_after_every_batch_or_at_random_or_never_the_history_is_the_same(name: str) -> None:
    dice = seeded(len(name))
    never = history_bytes(name)
    assert history_bytes(name, lambda: True) == never
    assert history_bytes(name, lambda: dice.random() < 0.3) == never
    assert history_bytes(name, settings=replace(SETTINGS, cached_runs=1)) == never


@pytest.mark.parametrize("batch_limit", [1, 3])
@pytest.mark.parametrize("name", SCENARIOS)
def test_however_few_commands_a_batch_holds_the_end_is_the_same(name: str, batch_limit: int) -> None:
    expected = outcome(play(World(DEPLOYMENTS["first"]), SCENARIOS[name]))
    world = World(DEPLOYMENTS["first"], replace(SETTINGS, batch_limit=batch_limit))
    assert outcome(play(world, SCENARIOS[name])) == expected
    check_everything(world.histories(), world.store_port, world.registry.served, world.payloads)
