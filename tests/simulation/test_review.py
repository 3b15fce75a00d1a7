"""After a start, open runs are replayed ahead of need: those that diverge are suspended now, and
nobody else waits for that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure import workflow
from perdure.engine import review
from perdure.engine.review import Reviewer
from perdure.model import commands as cm
from perdure.model.states import Status
from perdure.registry import Registry
from tests.simulation.world import InFile, InMemory, World

is_changed = False


@workflow.defn
async def sleeps_for_long() -> str:
    if is_changed:
        await workflow.produce("topic", "said")
    await workflow.wait_until(lambda: False, timeout="30 days")
    return "woken"


@workflow.defn
class Unchanged:
    def __init__(self) -> None:
        self.told = 0

    @workflow.run
    async def main(self) -> str:
        await workflow.wait_until(lambda: self.told > 1)
        return "done"

    @workflow.query
    def count(self) -> int:
        return self.told

    @workflow.signal
    def tell(self) -> None:
        self.told += 1


APP = Registry.of([sleeps_for_long, Unchanged])


@pytest.fixture(params=["memory", "file"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    world = World(APP, medium=InMemory() if request.param == "memory" else InFile(tmp_path / "app.db"))
    yield world
    world.close()


def statuses(world: World, prefix: str, count: int) -> set[Status]:
    return {world.state(f"{prefix}-{number}").status for number in range(count)}


def test_sleeping_runs_are_suspended_immediately_by_diverging_code_and_resume_with_the_old_code(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(review.PAGE + 6):
        world.start_workflow(f"sleeper-{number}", "sleeps_for_long")
        world.start_workflow(f"other-{number}", "Unchanged")
    monkeypatch.setitem(globals(), "is_changed", True)
    at = world.clock.at
    world.crash()
    world.settle()
    assert world.clock.at == at, "no timer has fired"
    assert statuses(world, "sleeper", review.PAGE + 6) == {Status.SUSPENDED}
    assert statuses(world, "other", review.PAGE + 6) == {Status.RUNNING}
    assert sum("suspended (no data lost)" in message for message in world.reports) == review.PAGE + 6
    assert "event 2: the history holds timer 1" in world.state("sleeper-0").reason
    monkeypatch.setitem(globals(), "is_changed", False)
    world.crash()
    world.settle()
    assert statuses(world, "sleeper", review.PAGE + 6) == {Status.RUNNING}


def test_a_review_records_nothing_of_runs_that_replay(world: World) -> None:
    for number in range(5):
        world.start_workflow(f"other-{number}", "Unchanged")
    before = [world.names(f"other-{number}") for number in range(5)]
    world.crash()
    world.settle()
    assert [world.names(f"other-{number}") for number in range(5)] == before
    assert len(world.engine.runs) == 0, "the cache holds what was used, not what was reviewed"


def test_a_command_waits_for_one_run_at_most(world: World) -> None:
    for number in range(20):
        world.start_workflow(f"other-{number}", "Unchanged")
    world.crash()
    request = world.signal_later("other-3", "tell")
    replays = world.engine.runs.replays
    while request not in world.replies:
        world.engine.run_batch(0)
    assert world.engine.runs.replays - replays <= 2, "the run itself, and one that was reviewed"


class Runs:
    """All replay."""

    def __init__(self) -> None:
        self.replayed = 0

    def is_live(self, workflow_id: str, run_id: str) -> bool:
        return False

    def can_replay(self, records: Any) -> bool:
        self.replayed += 1
        return True


class Record:
    def __init__(self, last_event_id: int) -> None:
        self.last_event_id = last_event_id


class Store:
    def __init__(self, lengths: dict[int, list[int]]) -> None:
        self.lengths = lengths

    def running(self, partition: int, after: Any, limit: int) -> tuple[list[tuple[str, str]], Any]:
        begin = after or 0
        page = [(f"{partition}-{number}", "run") for number in range(len(self.lengths[partition]))][
            begin : begin + limit
        ]
        return page, begin + limit if len(page) == limit else None

    def events(self, workflow_id: str, run_id: str) -> list[Any]:
        partition, _, number = workflow_id.partition("-")
        return [Record(self.lengths[int(partition)][int(number)])]


def reviewer_of(lengths: dict[int, list[int]]) -> tuple[Reviewer, Runs]:
    store: Any = Store(lengths)
    runs: Any = Runs()
    return Reviewer(store, runs), runs


def look_at_all(reviewer: Reviewer) -> None:
    while not reviewer.is_done:
        reviewer.look()


def test_an_engine_that_is_never_idle_reviews_a_run_now_and_then(world: World) -> None:
    for number in range(20):
        world.start_workflow(f"other-{number}", "Unchanged")
    world.start_workflow("busy", "Unchanged")
    world.crash()
    world.signal_later("busy", "tell")
    world.engine.run_batch(0)
    replays, batches = world.engine.runs.replays, 10 * review.BATCHES
    for _ in range(batches):
        world.ask(cm.QueryWorkflow, "busy", name="count")
        world.engine.run_batch(0)
    assert 7 <= world.engine.runs.replays - replays <= 10


def test_a_long_history_is_left_until_it_is_needed() -> None:
    reviewer, runs = reviewer_of({0: [10, review.MAX_EVENTS + 1, review.MAX_EVENTS]})
    reviewer.add([0])
    look_at_all(reviewer)
    assert (runs.replayed, reviewer.passed_over) == (2, 1)


@pytest.mark.parametrize("steps", [0, 1, 5, 70])
def test_each_partition_is_reviewed_once_however_often_it_comes_unless_it_went_too_early(steps: int) -> None:
    reviewer, runs = reviewer_of({0: [10] * 66, 1: [10] * 3, 2: [10] * 4})
    reviewer.add([0, 1])
    for _ in range(steps):
        reviewer.look()
    reviewer.remove([0])
    reviewer.add([2])
    look_at_all(reviewer)
    before = runs.replayed
    reviewer.add([0, 1, 2])
    look_at_all(reviewer)
    has_ended = steps >= 70
    assert runs.replayed - before == (0 if has_ended else 66)
