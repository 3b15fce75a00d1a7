"""A run that was forgotten and brought back is the one it was: histories are the same byte for byte."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from perdure.codec.records import encode_event_record
from tests.simulation.programs import DEPLOYMENTS
from tests.simulation.scenarios import SCENARIOS, play
from tests.simulation.world import World, seeded


def history_bytes(name: str, evicts: Callable[[], bool] | None = None) -> dict[tuple[str, str], list[bytes]]:
    world = World(DEPLOYMENTS["first"], checks_fold=True, evicts=evicts)
    play(world, SCENARIOS[name])
    return {key: [encode_event_record(record) for record in records] for key, records in world.histories().items()}


@pytest.mark.parametrize("name", SCENARIOS)
def test_evicted_after_every_batch_or_at_random_or_never_the_history_is_the_same(name: str) -> None:
    dice = seeded(len(name))
    never = history_bytes(name)
    assert history_bytes(name, lambda: True) == never
    assert history_bytes(name, lambda: dice.random() < 0.3) == never
