"""Closed runs leave when their retention ends, on memory and in a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perdure import workflow
from perdure.adapters.sqlite.file import connect
from perdure.core.run import fold
from perdure.engine import deleting, retention
from perdure.engine.ports import Batch
from perdure.engine.processor import Settings
from perdure.errors import UsageError
from perdure.model import commands as cm
from perdure.model.replies import Accepted, Refused
from perdure.model.retention import KEEP, Retention, retention_of_text
from perdure.model.states import Status
from perdure.model.streams import StreamRecord
from perdure.registry import Registry
from tests.simulation.test_crash_points import Crash, Faults
from tests.simulation.world import SETTINGS, InFile, InMemory, World

DAY = 86_400.0


@workflow.defn(name="retention_week", retention=workflow.Retention("30 days", completed="7 days"))
class Week:
    def __init__(self) -> None:
        self.next = ""

    @workflow.run
    async def process(self, left: int = 0) -> str:
        await workflow.wait_until(lambda: self.next)
        if self.next == "fail":
            raise workflow_failure()
        if self.next == "continue":
            workflow.continue_as_new(self.process, left)
        return "ok"

    @workflow.signal
    def go(self, how: str) -> None:
        self.next = how


def workflow_failure() -> Exception:
    from perdure.errors import Failure

    return Failure("no")


@workflow.defn(name="retention_default")
async def by_default() -> str:
    return "ok"


@workflow.defn(name="retention_kept", retention=None)
async def kept() -> str:
    return "ok"


@workflow.defn(name="retention_parent", retention="1 day")
async def parent() -> str:
    await workflow.options(on_close="abandon").start("child", Week.process)
    await workflow.sleep("1s")
    return "ok"


REGISTRY = Registry.of([Week, by_default, kept, parent], [])


def settings(default: Retention = KEEP) -> Settings:
    return replace(SETTINGS, retention=default)


@pytest.fixture(params=["memory", "file"])
def medium(request: pytest.FixtureRequest, tmp_path: Path) -> InMemory | InFile:
    return InFile(tmp_path / "app.db") if request.param == "file" else InMemory()


@pytest.fixture
def world(medium: InMemory | InFile) -> Iterator[World]:
    world = World(REGISTRY, settings(), medium=medium)
    yield world
    world.close()


def run_id(world: World, workflow_id: str) -> str:
    found: str = world.state(workflow_id).run_id
    return found


def closed_order(world: World, workflow_id: str, how: str = "ok") -> str:
    world.start_workflow(workflow_id, "retention_week")
    world.signal(workflow_id, "go", how)
    return run_id(world, workflow_id)


def is_gone(world: World, workflow_id: str, run: str) -> bool:
    """Nothing of the run is left, in the store or in the cache."""
    state = world.state(workflow_id)
    cached = world.engine.runs._runs.get(workflow_id)
    found = [
        world.store_port.events(workflow_id, run),
        state is not None and state.run_id == run,
        [each for each in world.store_port.closed_runs().of(workflow_id) if each.run_id == run],
        cached is not None and cached.state.run_id == run,
    ]
    assert len({bool(each) for each in found[:3]}) == 1 or state is None or state.run_id != run, found
    return not any(found)


def test_a_run_goes_when_the_retention_of_its_type_and_outcome_ends(world: World) -> None:
    completed, failed = closed_order(world, "a"), closed_order(world, "b", "fail")
    world.advance(7 * DAY - 1)
    assert not is_gone(world, "a", completed)
    world.advance(2)
    assert is_gone(world, "a", completed)
    assert not is_gone(world, "b", failed)
    world.advance(23 * DAY)
    assert is_gone(world, "b", failed)
    assert world.engine.counts.removed == 2


def test_a_type_that_says_nothing_goes_by_the_default_and_none_is_for_ever(medium: InMemory | InFile) -> None:
    world = World(REGISTRY, settings(retention_of_text("2 days, failed=forever")), medium=medium)
    for each in ("retention_default", "retention_kept"):
        world.start_workflow(each, each)
    world.advance(400 * DAY)
    assert world.state("retention_default") is None
    assert world.state("retention_kept").status is Status.COMPLETED
    world.close()


def test_a_changed_setting_applies_to_runs_that_closed_before(world: World) -> None:
    world.start_workflow("a", "retention_default")
    world.advance(3 * DAY)
    assert world.state("a").status is Status.COMPLETED
    world.settings = settings(retention_of_text("2 days"))
    world.crash()
    world.settle()
    assert world.state("a") is None


def test_an_open_run_never_goes_however_old_it_is(world: World) -> None:
    world.start_workflow("a", "retention_week")
    world.advance(1_000 * DAY)
    assert world.state("a").status is Status.RUNNING
    world.signal("a", "go", "ok")
    world.advance(DAY)
    assert world.value("a") == "ok"


def test_an_id_that_is_in_use_loses_its_old_run_only(world: World) -> None:
    old = closed_order(world, "a")
    world.start_workflow("a", "retention_week")
    world.advance(8 * DAY)
    assert is_gone(world, "a", old)
    assert world.state("a").status is Status.RUNNING
    world.signal("a", "go", "ok")
    assert world.value("a") == "ok"


def test_each_run_of_a_chain_goes_by_its_own_end(world: World) -> None:
    world.start_workflow("a", "retention_week")
    first = run_id(world, "a")
    world.signal("a", "go", "continue")
    second = run_id(world, "a")
    assert first != second
    world.advance(4 * DAY)
    world.signal("a", "go", "ok")
    world.advance(4 * DAY)
    assert is_gone(world, "a", first)
    assert run_id(world, "a") == second
    world.advance(4 * DAY)
    assert is_gone(world, "a", second)


def test_a_workflow_whose_last_run_goes_first_shows_the_run_before(world: World) -> None:
    failed = closed_order(world, "a", "fail")
    completed = closed_order(world, "a")
    world.advance(8 * DAY)
    assert is_gone(world, "a", completed)
    state = world.state("a")
    assert (state.run_id, state.status) == (failed, Status.FAILED)
    assert fold(world.history("a")).status is Status.FAILED
    world.crash()
    world.advance(30 * DAY)
    assert world.state("a") is None


def test_a_removed_id_is_free_and_unknown(world: World) -> None:
    old = closed_order(world, "a")
    world.advance(8 * DAY)
    asked = world.ask(cm.AwaitWorkflow, "a", run_id=old)
    signalled = world.ask(cm.SignalWorkflow, "a", name="go", input=b'["x"]')
    world.settle()
    for each in (asked, signalled):
        reply = world.replies[each]
        assert isinstance(reply, Refused)
        assert reply.code == "not_found"
    reply = world.start_workflow("a", "retention_week", if_closed="refuse")
    assert isinstance(reply, Accepted)
    assert reply.is_new


def test_a_start_with_the_same_request_id_starts_a_second_run_once_the_first_is_removed(world: World) -> None:
    fields: dict[str, Any] = {"request_id": "once"}
    world.start_workflow("a", "retention_default", **fields)
    first = run_id(world, "a")
    world.start_workflow("a", "retention_default", **fields)
    assert run_id(world, "a") == first
    world.settings = settings(retention_of_text("1 day"))
    world.crash()
    world.advance(2 * DAY)
    world.start_workflow("a", "retention_default", **fields)
    assert run_id(world, "a") != first


def test_a_child_that_outlives_its_parents_records_ends_as_any_run(world: World) -> None:
    world.start_workflow("p", "retention_parent")
    world.advance(3 * DAY)
    assert world.state("p") is None
    child = world.state("child")
    assert (child.status, child.parent) == (Status.RUNNING, "p")
    world.signal("child", "go", "ok")
    assert world.value("child") == "ok"
    assert not world.reports


def test_runs_go_in_slices_and_none_is_left(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "SLICE", 3)
    runs = [closed_order(world, f"order-{number}") for number in range(10)]
    before = world.engine.batches
    world.advance(8 * DAY)
    assert all(is_gone(world, f"order-{number}", run) for number, run in enumerate(runs))
    assert world.engine.batches - before >= 1
    assert world.engine.counts.removed == 10
    assert world.engine.counts.oldest_due_us >= 0


def test_an_engine_that_is_never_idle_removes_runs_too(world: World) -> None:
    runs = [closed_order(world, f"old-{number}") for number in range(30)]
    world.clock.at += round(8 * DAY * 1e6)
    for number in range(5):
        world.log.submit([cm.StartWorkflow(f"new-{number}", type="retention_week", input=b"[]")])
        world.engine.run_batch(0)
        world.clock.at += 1
    gone = [is_gone(world, f"old-{number}", run) for number, run in enumerate(runs)]
    assert sum(gone) >= 30


def test_a_crash_at_any_point_of_a_removal_removes_all_or_nothing() -> None:
    def play(crash_at: int) -> Faults:
        faults = Faults({crash_at})
        world = World(REGISTRY, settings(), faults.wrap)
        runs = [closed_order(world, "a", "fail"), closed_order(world, "a"), closed_order(world, "b")]
        faults.is_armed = True
        world.clock.at += round(8 * DAY * 1e6)
        try:
            world.settle()
        except Crash:
            faults.is_armed = False
            world.crash()
            state = world.state("a")
            assert world.store_port.events("a", state.run_id), "a state without its history"
            assert bool(world.state("b")) == bool(world.store_port.events("b", runs[2]))
            world.settle()
        faults.is_armed = False
        assert is_gone(world, "a", runs[1])
        assert is_gone(world, "b", runs[2])
        assert run_id(world, "a") == runs[0]
        world.close()
        return faults

    points = len(play(0).points)
    assert points > 10
    for point in range(1, points + 1):
        assert play(point).crashes == 1


def test_a_file_reaches_a_plateau(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    world = World(REGISTRY, settings(), medium=InFile(path))
    pages: list[int] = []
    for day in range(24):
        world.log.submit(
            [
                cm.StartWorkflow(
                    f"order-{day}-{number}", type="retention_week", signal_name="go", signal_input=b'["ok"]'
                )
                for number in range(40)
            ]
        )
        world.advance(DAY)
        with closing(connect(path, 5.0)) as connection:
            (count,) = connection.execute("PRAGMA page_count").fetchone()
        pages.append(count)
    assert pages[8] > pages[1]
    # without the removal of old runs, the last third would be twice as large as the first
    assert max(pages[16:]) <= 1.1 * max(pages[8:16]), pages
    world.close()


def deleted(world: World, workflow_id: str, run_id: str = "") -> Any:
    request_id = world.ask(cm.DeleteWorkflow, workflow_id, run_id=run_id, reason="they asked")
    world.settle()
    return world.replies[request_id]


def test_a_deletion_removes_all_runs_of_a_closed_workflow_at_once(world: World) -> None:
    runs = [closed_order(world, "a", how) for how in ("fail", "ok", "fail")]
    other = closed_order(world, "b")
    assert isinstance(deleted(world, "a"), Accepted)
    for _ in range(2):
        assert world.state("a") is None
        assert all(is_gone(world, "a", run) for run in runs)
        assert not is_gone(world, "b", other)
        world.crash()
    reply = deleted(world, "a")
    assert isinstance(reply, Refused)
    assert reply.code == "not_found"


def test_a_deletion_of_one_run_leaves_the_others(world: World) -> None:
    first, second = closed_order(world, "a", "fail"), closed_order(world, "a")
    world.start_workflow("a", "retention_week")
    assert isinstance(deleted(world, "a", first), Accepted)
    assert is_gone(world, "a", first)
    assert not is_gone(world, "a", second)
    world.signal("a", "go", "ok")
    assert world.value("a") == "ok"
    assert deleted(world, "a", first).code == "not_found"


def test_an_open_run_is_not_deleted(world: World) -> None:
    world.start_workflow("a", "retention_week")
    for run in ("", run_id(world, "a")):
        reply = deleted(world, "a", run)
        assert (reply.code, reply.message) == (
            "open",
            "workflow 'a' is running: only a closed run can be deleted; cancel or terminate it first",
        )
    assert world.state("a").status is Status.RUNNING


def test_a_run_that_ends_in_the_same_batch_is_deleted_in_the_next(world: World) -> None:
    world.start_workflow("a", "retention_week")
    run = run_id(world, "a")
    world.ask(cm.TerminateWorkflow, "a")
    assert isinstance(deleted(world, "a"), Accepted)
    assert is_gone(world, "a", run)


def test_an_id_that_is_deleted_and_started_in_one_batch_has_the_new_run_only(world: World) -> None:
    old = closed_order(world, "a")
    asked = world.ask(cm.DeleteWorkflow, "a")
    world.start_workflow("a", "retention_week")
    assert isinstance(world.replies[asked], Accepted)
    assert is_gone(world, "a", old)
    assert world.state("a").status is Status.RUNNING


class WritesNoRemoval:
    """A log that fails on every batch that removes a run."""

    def __init__(self, log: Any) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def commit(self, batch: Batch) -> None:
        if batch.removed:
            raise ValueError("no removal")
        self._log.commit(batch)


def test_a_removal_that_cannot_be_written_stops_nothing_else() -> None:
    world = World(REGISTRY, settings(), lambda port, name: WritesNoRemoval(port) if name == "log" else port)
    old = closed_order(world, "a")
    world.advance(8 * DAY)
    assert not is_gone(world, "a", old)
    world.start_workflow("b", "retention_week")
    world.signal("b", "go", "ok")
    assert world.value("b") == "ok"
    reply = deleted(world, "a")
    assert isinstance(reply, Refused)
    assert "no removal" in reply.message
    (letter,) = world.medium.letters
    assert letter.reason == "poisoned"
    world.close()


def test_a_long_chain_is_deleted_in_slices(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deleting, "SLICE", 2)
    runs = [closed_order(world, "a") for _ in range(7)]
    assert isinstance(deleted(world, "a"), Accepted)
    assert all(is_gone(world, "a", run) for run in runs)
    assert world.state("a") is None


def test_a_deleted_run_is_gone_from_streams_too(world: World) -> None:
    closed_order(world, "a")
    world.log.commit(Batch(1, streams=[StreamRecord("a", run_id(world, "a"), "s", 1, b"1", 1)]))
    assert isinstance(deleted(world, "a"), Accepted)
    if isinstance(world._medium, InFile):
        with closing(connect(world._medium.path, 5.0)) as connection:
            assert connection.execute("SELECT count(*) FROM streams").fetchall() == [(0,)]
    else:
        assert not any(each.value for each in world.medium.streams)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("30 days", Retention("30 days")),
        ("7 days, failed=90 days", Retention("7 days", failed="90 days")),
        ("failed = 1h, terminated=forever", Retention(failed="1h", terminated=None)),
        ("for ever", KEEP),
        ("", Retention()),
    ],
)
def test_text_says_what_an_author_says(text: str, found: Retention) -> None:
    assert retention_of_text(text) == found


@pytest.mark.parametrize("text", ["30", "soon", "0s", "lost=1 day", "1 day, 2 days", "failed=", "running=1d"])
def test_text_that_says_nothing_sensible_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="retention"):
        retention_of_text(text)


def test_a_definition_refuses_what_is_no_retention() -> None:
    with pytest.raises(UsageError, match=r"test_retention.py:\d+: workflow.defn: a duration is"):
        workflow.defn(retention=7)  # type: ignore[call-overload]
