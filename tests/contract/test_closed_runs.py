"""The contract of `engine.ports.Store` about closed runs and their removal, for every adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from perdure.engine.ports import Batch
from perdure.model.events import SignalReceived
from perdure.model.retention import ClosedRun, RemovedRun
from perdure.model.states import Status
from tests.contract.rocks import STORES
from tests.contract.samples import record, state, states, with_record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.contract.media import Media, Node

LATER = 1 << 62


@pytest.fixture(params=sorted(STORES))
def media(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Media]:
    media: Media = STORES[request.param](tmp_path)
    yield media
    media.close()


def closed(
    run_id: str, at: int, *, type: str = "Order", status: str = "completed", workflow_id: str = "w"
) -> ClosedRun:
    return ClosedRun(type, status, at, run_id, workflow_id)


def closing(*runs: ClosedRun, at: int = 1) -> Batch:
    """The runs close, and another one follows each."""
    return Batch(at, closed=list(runs), followed=list(runs))


def removing(*runs: ClosedRun, at: int = 9, event_ids: tuple[int, ...] = (1,)) -> Batch:
    return Batch(at, removed=[RemovedRun(run, event_ids) for run in runs])


def test_closed_runs_are_found_by_type_and_status_the_first_one_at_the_front(node: Node) -> None:
    runs = [closed(f"run-{at}", at) for at in (300, 5, 1_700_000_000_000_000, -2, 40)]
    failed = [closed("run-a", 7, status="failed"), closed("run-b", 6, type="Orders")]
    for run in (*runs, *failed):
        node.write(closing(run))
    assert sorted(node.store.closed_runs().kinds(LATER)) == [
        ("Order", "completed"),
        ("Order", "failed"),
        ("Orders", "completed"),
    ]
    assert node.store.closed_runs().first(("Order", "completed"), 10) == sorted(runs)
    assert node.store.closed_runs().first(("Order", "completed"), 2) == sorted(runs)[:2]
    assert node.store.closed_runs().first(("Order", "failed"), 10) == [failed[0]]
    assert node.store.closed_runs().first(("Nothing", "failed"), 10) == []
    assert sorted(node.store.closed_runs().of("w")) == sorted((*runs, *failed))
    assert node.store.closed_runs().of("w2") == []


def test_a_removed_run_leaves_nothing_and_others_stay(media: Media) -> None:
    node = media.node().open()
    node.write(with_record(with_record(Batch(1), record("run-1")), record("run-2")))
    node.write(with_record(Batch(2), record("run-1", 3, SignalReceived("go", b"[]"), at=2)))
    node.write(states(state("w", "run-2", status=Status.COMPLETED), state("v"), at=3))
    first, second = closed("run-1", 2), closed("run-2", 3)
    node.write(closing(first, second, at=4))
    assert node.store.closed_runs().event_ids("w", "run-1") == [1, 3]
    assert node.store.closed_runs().current("w") == "run-2"
    node.write(removing(first, event_ids=(1, 3)))
    for _ in range(2):
        assert node.store.events("w", "run-1") == []
        assert node.store.closed_runs().event_ids("w", "run-1") == []
        assert node.store.events("w", "run-2") == [record("run-2")]
        assert node.store.closed_runs().current("w") == "run-2"
        assert node.store.closed_runs().of("w") == [second]
        assert node.store.closed_runs().first(("Order", "completed"), 10) == [second]
        media.crash(node)
        node = media.node().open()
    batch = removing(second, at=10)
    batch.states_ended = {"w"}
    node.write(batch)
    for _ in range(2):
        assert node.store.events("w", "run-2") == []
        assert node.store.state("w") is None
        assert node.store.closed_runs().current("w") == ""
        assert node.store.state("v") == state("v")
        assert node.store.closed_runs().first(("Order", "completed"), 10) == []
        media.crash(node)
        node = media.node().open()


def test_the_last_run_of_a_workflow_is_found_too(node: Node) -> None:
    earlier, last = closed("run-1", 2), closed("run-2", 7)
    node.write(closing(earlier))
    batch = states(replace(state("w", "run-2", status=Status.COMPLETED), closed_at=7), at=7)
    batch.closed = [last]
    node.write(batch)
    assert sorted(node.store.closed_runs().of("w")) == [earlier, last]


def test_a_removal_that_is_applied_twice_changes_nothing_more(node: Node) -> None:
    node.write(with_record(Batch(1), record("run-1")))
    node.write(closing(closed("run-1", 1)))
    node.write(removing(closed("run-1", 1)))
    node.store.apply(removing(closed("run-1", 1)))
    assert node.store.closed_runs().of("w") == []


def test_runs_that_close_after_older_ones_were_removed_are_found(node: Node) -> None:
    for at in (1, 2):
        node.write(closing(closed(f"run-{at}", at), at=at))
        assert node.store.closed_runs().first(("Order", "completed"), 10) == [closed(f"run-{at}", at)]
        node.write(removing(closed(f"run-{at}", at), at=at))
        assert node.store.closed_runs().first(("Order", "completed"), 10) == []


def test_a_store_that_removes_what_it_takes_keeps_its_size(tmp_path: Path) -> None:
    """Of the Kafka engine: after each round its database has the checkpoint, and nothing else."""
    media = STORES["rocksdb"](tmp_path)
    node = media.node().open()
    for number in range(1, 6):
        run = closed(f"run-{number}", number)
        node.write(with_record(Batch(number), record(run.run_id)))
        batch = states(state("w", run.run_id, status=Status.COMPLETED), at=number)
        batch.closed = [run]
        node.write(batch)
        ending = removing(run, at=number)
        ending.states_ended = {"w"}
        node.write(ending)
        assert [key for key, _ in node.store.owned[0].scan(b"", b"\xff")] == [b"c"]
    media.close()
