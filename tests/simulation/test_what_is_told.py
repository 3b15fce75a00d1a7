"""The engine's messages to others: readers, waiting clients, workers, and callers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from perdure import activity, workflow
from perdure.engine.leases import EXPECTED_US
from perdure.errors import CommitAborted
from perdure.model import commands as cm
from perdure.model.limits import ATTRIBUTES_BYTES
from perdure.model.replies import Accepted, Answered, AskAgain, Closed, History, Refused
from perdure.model.states import Status
from perdure.registry import Registry
from tests.simulation.world import World


@activity.defn
async def charge() -> str:
    return "paid"


@workflow.defn
class Waiting:
    """Without a view."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    @workflow.run
    async def main(self) -> list[str]:
        await workflow.wait_until(lambda: "pay" in self.texts or "sleep" in self.texts)
        if "pay" in self.texts:
            await charge()
        else:
            await workflow.sleep("1h")
        return self.texts

    @workflow.signal
    def put(self, text: str) -> None:
        self.texts.append(text)

    @workflow.query
    def count(self) -> int:
        return len(self.texts)


@workflow.defn
class Meddled:
    """Has a query that wakes it."""

    def __init__(self) -> None:
        self.woken = asyncio.Event()
        self.texts: list[str] = []

    @workflow.run
    async def main(self) -> None:
        await self.woken.wait()

    @workflow.query
    def meddle(self) -> None:
        self.texts.append("meddled")
        self.woken.set()

    @workflow.query
    def count(self) -> int:
        return len(self.texts)


@workflow.defn
class Shown:
    """Its view can be broken and repaired."""

    def __init__(self) -> None:
        self.text = ""

    @workflow.run
    async def main(self) -> None:
        await workflow.wait_until(lambda: self.text == "end")

    @workflow.signal
    def put(self, text: str) -> None:
        self.text = text

    @workflow.view
    def shown(self) -> str:
        if self.text.startswith("broken"):
            raise ValueError(self.text)
        return "whole"


@activity.step
def stamp() -> str:
    return "stamped"


@workflow.defn
class Stepped:
    """Waits for a step."""

    @workflow.run
    async def main(self) -> str:
        return await stamp()


@workflow.defn(name="Waiting")
class Changed:
    """The changed version of `Waiting`, from which its histories diverge."""

    @workflow.run
    async def main(self) -> None:
        await charge()

    @workflow.signal
    def put(self, text: str) -> None: ...


APP = Registry.of([Waiting, Meddled, Shown], [charge])


class Disk:
    """Around a log: a commit is aborted when a test says so.

    Attributes:
        is_full: the next commit is aborted.
        stopped: tokens of attempts that were asked to stop.
    """

    def __init__(self) -> None:
        self.is_full = False
        self.stopped: list[str] = []
        self._log: Any = None

    def wrap(self, port: Any, name: str) -> Any:
        if name != "log":
            return port
        self._log = port
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def commit(self, batch: Any) -> None:
        if self.is_full:
            self.is_full = False
            raise CommitAborted("the disk is full")
        self.stopped += batch.cancelled
        self._log.commit(batch)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def world(disk: Disk) -> Iterator[World]:
    world = World(APP, wrap=disk.wrap)
    yield world
    world.close()


def partition_of(world: World, workflow_id: str) -> int:
    return world.log.input_of(workflow_id)[0]


# ---- readers


def test_readers_get_a_new_run_although_its_state_looks_the_same(world: World) -> None:
    first = world.start_workflow("w", "Waiting")
    second = world.start_workflow("w", "Waiting", if_running="terminate")
    assert first.run_id != second.run_id
    assert (world.state("w").run_id, world.state("w").status) == (second.run_id, Status.RUNNING)


def test_readers_get_changed_waits_although_nothing_else_has_changed(world: World) -> None:
    world.start_workflow("w", "Waiting")
    assert world.state("w").waits == ()
    world.signal("w", "put", "sleep")
    assert [wait.kind for wait in world.state("w").waits] == ["timer"]


def test_readers_see_why_a_view_fails_and_when_it_works_again(world: World) -> None:
    world.start_workflow("s", "Shown")
    for text, reason in [
        ("broken one", "ValueError: broken one"),
        ("broken two", "ValueError: broken two"),
        ("", ""),
    ]:
        world.signal("s", "put", text)
        state = world.state("s")
        assert (state.view, state.reason.removeprefix("the view could not be taken: ")) == (
            b'"whole"',
            reason,
        )


def test_a_view_that_cannot_be_taken_still_says_why_after_a_restart(world: World) -> None:
    world.start_workflow("s", "Shown")
    world.signal("s", "put", "broken")
    world.crash()
    world.signal("nobody", "put", "x")
    world.signal("s", "put", "broken")
    assert world.state("s").reason == "the view could not be taken: ValueError: broken"


# ---- those who wait for a result


def test_waiters_of_a_run_on_a_lost_partition_are_asked_once_to_repeat(world: World) -> None:
    world.start_workflow("w", "Waiting")
    request = world.ask(cm.AwaitWorkflow, "w")
    world.settle()
    partition = partition_of(world, "w")
    world.engine.partitions_lost([partition + 1])
    world.settle()
    assert request not in world.replies, "another partition"
    world.engine.partitions_lost([partition])
    world.engine.run_batch(0)
    assert world.replies.pop(request) == AskAgain(request)
    world.engine.partitions_gained([partition])
    world.signal("w", "put", "x")
    assert request not in world.replies


def test_waiting_clients_are_asked_to_repeat_when_the_engine_closes(world: World) -> None:
    world.start_workflow("w", "Waiting")
    request = world.ask(cm.AwaitWorkflow, "w")
    world.settle()
    world.engine.close()
    assert world.replies[request] == AskAgain(request)
    world.boot()


def test_waiting_for_an_earlier_run_returns_its_own_end(world: World) -> None:
    first = world.start_workflow("w", "Waiting")
    world.start_workflow("w", "Waiting", if_running="terminate")
    request = world.ask(cm.AwaitWorkflow, "w", run_id=first.run_id)
    world.settle()
    closed = world.replies[request]
    assert isinstance(closed, Closed)
    assert isinstance(closed, Closed)
    assert (closed.run_id, closed.status) == (first.run_id, Status.TERMINATED)


def test_the_history_of_an_earlier_run_can_be_read(world: World) -> None:
    first = world.start_workflow("w", "Waiting")
    world.start_workflow("w", "Waiting", if_running="terminate")
    for run_id, length in [(first.run_id, 2), ("", 1), ("run-unheard-of", 0)]:
        request = world.ask(cm.ReadHistory, "w", run_id=run_id)
        world.settle()
        history = world.replies[request]
        assert isinstance(history, History)
        assert len(history.records) == (length > 0) + (length > 1)


# ---- workers


def out(world: World) -> Any:
    """The task of the one activity that is out."""
    (task,) = [task for task in world.store_port.tasks() if task.queue]
    return task


def test_an_attempt_whose_worker_and_engine_died_is_made_again(world: World) -> None:
    world.serves_tasks = False
    world.start_workflow("w", "Waiting")
    world.signal("w", "put", "pay")
    task = out(world)
    world.log.submit([cm.StartActivity("w", task.run_id, number=1, token=task.token, worker="worker-1")])
    world.settle()
    world.crash()
    world.settle()
    assert "ActivityAttemptFailed" not in world.names("w")
    world.advance(EXPECTED_US / 1e6 + 5)
    assert "ActivityAttemptFailed" in world.names("w")
    assert out(world).attempt == 2


def test_a_worker_is_asked_to_stop_an_attempt_whose_result_is_not_wanted(world: World, disk: Disk) -> None:
    world.serves_tasks = False
    world.start_workflow("w", "Waiting")
    world.signal("w", "put", "pay")
    task = out(world)
    stale = cm.HeartbeatActivity("w", task.run_id, number=1, token="an earlier one")
    world.log.submit([stale, cm.HeartbeatActivity("w", task.run_id, number=1, token=task.token)])
    world.settle()
    assert disk.stopped == ["an earlier one"]


def test_an_attempt_that_has_reported_is_not_waited_for(world: World) -> None:
    world.serves_tasks = False
    world.start_workflow("w", "Waiting")
    world.signal("w", "put", "pay")
    task = out(world)
    world.log.submit([cm.StartActivity("w", task.run_id, number=1, token=task.token, worker="worker-1")])
    world.settle()
    assert world.engine.leased == 1
    world.log.submit([cm.CompleteActivity("w", task.run_id, number=1, token=task.token, result=b'"paid"')])
    world.settle()
    assert world.engine.leased == 0


def test_a_step_that_the_engine_had_begun_is_run_by_the_one_that_follows() -> None:
    world = World(Registry.of([Stepped], [stamp]), joins_steps=False)
    world.ask(cm.StartWorkflow, "w", type="Stepped", input=b"[]")
    world.engine.run_batch(0)
    assert [task.name for task in world.steps] == ["stamp"]
    assert world.names("w") == ["WorkflowStarted", "ActivityScheduled"]
    world.crash()
    world.settle()
    assert world.value("w") == "stamped"


# ---- any client that asked


def test_a_start_that_attaches_with_its_signal_says_so_and_repeated_acts_once(world: World) -> None:
    fields: dict[str, Any] = {"if_running": "attach", "signal_name": "put", "signal_input": b'["a"]'}
    first = world.start_workflow("w", "Waiting", **fields)
    assert isinstance(first, Accepted)
    assert first.is_new
    for _ in range(2):
        again = world.start_workflow("w", "Waiting", request_id="again", trace="00-1-2-01", **fields)
        assert (again.run_id, again.is_new) == (first.run_id, False)
    request = world.ask(cm.QueryWorkflow, "w", name="count")
    world.settle()
    assert world.replies[request] == Answered(request, b"2")


def test_attributes_may_be_as_long_as_the_limit(world: World) -> None:
    exact = b'{"a":"%s"}' % (b"x" * (ATTRIBUTES_BYTES - 8))
    assert isinstance(world.start_workflow("w", "Waiting", attributes=exact), Accepted)
    refused = world.start_workflow("v", "Waiting", attributes=exact + b" ")
    assert isinstance(refused, Refused)
    assert refused.code == "limit"


def test_changes_that_a_query_makes_to_a_run_are_undone(world: World) -> None:
    world.start_workflow("w", "Meddled")
    refused = world.ask(cm.QueryWorkflow, "w", name="meddle")
    request = world.ask(cm.QueryWorkflow, "w", name="count")
    world.settle()
    assert isinstance(world.replies[refused], Refused)
    assert world.replies[request] == Answered(request, b"0")
    assert world.state("w").status is Status.RUNNING


def test_code_sees_a_signal_that_comes_in_the_batch_in_which_it_begins(world: World) -> None:
    world.start_workflow("w", "Waiting", delay_us=1_000_000)
    world.signal_later("w", "put", "early")
    world.clock.at += 1_000_000
    world.engine.run_batch(0)
    assert world.names("w") == ["WorkflowStarted", "SignalReceived", "WorkflowBegun"]
    request = world.ask(cm.QueryWorkflow, "w", name="count")
    world.settle()
    assert world.replies[request] == Answered(request, b"1")


# ---- the operator


def test_trouble_is_over_with_the_next_commit(world: World, disk: Disk) -> None:
    world.start_workflow("w", "Waiting")
    disk.is_full = True
    world.signal_later("w", "put", "x")
    world.engine.run_batch(0)
    assert "the disk is full" in world.engine.pulse.trouble
    assert world.engine.run_batch(0)
    assert world.names("w")[-1] == "SignalReceived"
    assert world.engine.pulse.trouble == "", "it was committed; no idle batch has followed"


def test_trouble_is_over_when_what_was_aborted_is_for_others(world: World, disk: Disk) -> None:
    world.start_workflow("w", "Waiting")
    disk.is_full = True
    world.signal_later("w", "put", "x")
    world.engine.run_batch(0)
    world.log.take(1, 0)  # another engine has it now
    assert not world.engine.run_batch(0)
    assert world.engine.pulse.trouble == ""


def test_a_timer_of_a_run_that_ended_early_is_not_due(world: World) -> None:
    world.start_workflow("w", "Waiting")
    world.signal("w", "put", "sleep")
    world.ask(cm.TerminateWorkflow, "w", reason="enough")
    world.settle()
    world.clock.at += 3_600_000_000
    assert not world.engine.run_batch(0)
    assert sum(world.engine.counts.lateness_us.counts) == 0


def test_a_timer_that_fires_late_is_counted_by_how_late(world: World) -> None:
    world.start_workflow("w", "Waiting")
    world.signal("w", "put", "sleep")
    world.clock.at += 3_600_000_000 + 7_000
    world.settle()
    assert world.state("w").status is Status.COMPLETED
    assert world.engine.counts.lateness_us.total == 7_000


def test_a_run_is_suspended_once_for_each_reason(world: World) -> None:
    world.start_workflow("w", "Waiting")
    world.signal("w", "put", "sleep")
    reasons: list[str] = []
    for registry in (
        Registry.of([Shown], [charge]),
        Registry.of([], [charge]),
        Registry.of([Changed], [charge]),
    ):
        world.deploy(registry)
        world.settle()
        for _ in range(2):
            world.signal("w", "put", "x")
            reasons.append(world.state("w").reason)
    assert world.names("w").count("WorkflowSuspended") == 2
    assert len(set(reasons[:4])) == 1
    assert "Waiting" in reasons[0]
    assert len(set(reasons[4:])) == 1
    assert "activity 1 'charge' scheduled" in reasons[4]
    world.deploy(APP)
    world.settle()
    assert world.state("w").status is Status.RUNNING


def test_waiting_for_a_run_that_another_followed_in_the_same_batch_gets_its_end(world: World) -> None:
    started = world.start_workflow("w", "Waiting")
    world.ask(cm.StartWorkflow, "w", type="Waiting", if_running="terminate")
    request = world.ask(cm.AwaitWorkflow, "w", run_id=started.run_id)
    world.settle()
    closed = world.replies[request]
    assert isinstance(closed, Closed)
    assert (closed.status, closed.run_id) == (Status.TERMINATED, started.run_id)
