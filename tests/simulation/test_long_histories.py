"""A long history is replayed page by page: nothing comes out otherwise than with a short one."""

from __future__ import annotations

import pytest

from perdure.codec.long_history import LongHistory
from perdure.engine import active
from tests.simulation.programs import DEPLOYMENTS
from tests.simulation.scenarios import SCENARIOS, outcome, play
from tests.simulation.test_crash_points import check, without_crash
from tests.simulation.world import SETTINGS, World


@pytest.mark.parametrize(
    "name", ["order", "tokens", "patched", "streams", "two versions", "suspended, fixed", "inline steps"]
)
def test_a_run_ends_alike_when_its_history_is_read_page_by_page(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = without_crash(name)[0]
    monkeypatch.setattr(active, "LONG", 1)
    story = play(World(DEPLOYMENTS["first"], SETTINGS, evicts=lambda: True), SCENARIOS[name])
    check(story)
    assert outcome(story) == wanted


def test_only_the_records_that_hold_a_kind_are_decoded() -> None:
    world = World(DEPLOYMENTS["first"], SETTINGS)
    world.start_workflow("t", "asks", 30)
    world.settle()
    run_id = world.run_ids["t"][0]
    read: list[int] = []

    def page(from_event_id: int) -> object:
        read.append(from_event_id)
        return world.store.page("t", run_id, from_event_id, 1)

    history = LongHistory(page)  # type: ignore[arg-type]
    whole = world.store.events("t", run_id)
    assert list(history) == whole
    assert read[0] == 1
    assert len(read) > 1
    found = list(history.holding(["TokenIssued"]))
    assert found == [
        record for record in whole if any(type(event).__name__ == "TokenIssued" for event in record.events)
    ]
    assert list(LongHistory(page, whole[:1]).holding(["Nothing"])) == whole[:1]  # type: ignore[arg-type]
