"""What an aborted batch has put back survives a change of partitions; only what belongs to those
that are lost is dropped."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from perdure import activity, workflow
from perdure.errors import CommitAborted
from perdure.model import commands as cm
from perdure.model.replies import AskAgain
from perdure.model.states import Status
from perdure.registry import Registry
from tests.simulation.world import World

STAYS, GOES = "order-0", "order-1"
LEASE_S = 10


@activity.defn
async def work() -> str:
    return "done"


@workflow.defn
async def working() -> str:
    return await work()


class Diverging:
    """Which program the workflow below follows."""

    other = False


@workflow.defn
class Changing:
    @workflow.run
    async def run(self) -> str:
        if Diverging.other:
            return "other"
        await work()
        return "done"


REGISTRY = Registry.of([working, Changing], [work])


class Partitioned:
    """Around a log of one partition: two, by the last digit of the workflow id. Commits are
    aborted, partitions go and come."""

    def __init__(self) -> None:
        self._log: Any = None
        self._owner: Any = None
        self._moves: list[tuple[str, Collection[int]]] = []
        self.aborts = 0
        self.raises: set[str] = set()
        self.batches: list[Any] = []

    def wrap(self, port: Any, name: str) -> Any:
        if name != "log":
            return port
        self._log = port
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def open(self, owner: Any) -> None:
        self._log.open(None)
        self._owner = owner
        owner.partitions_gained((0, 1))

    def input_of(self, workflow_id: str) -> tuple[int, int]:
        return int(workflow_id[-1]), -1

    def lose(self, partition: int) -> None:
        """Before the next command is taken."""
        self._moves.append(("partitions_lost", (partition,)))

    def gain(self, partition: int) -> None:
        self._moves.append(("partitions_gained", (partition,)))

    def take(self, limit: int, timeout_s: float) -> Any:
        if limit:
            for what, partitions in self._moves:
                getattr(self._owner, what)(partitions)
            self._moves.clear()
        return self._log.take(limit, timeout_s)

    def commit(self, batch: Any) -> None:
        if self.aborts:
            self.aborts -= 1
            raise CommitAborted("partitions move")
        if any(record.workflow_id in self.raises for record, _ in batch.events):
            raise ValueError("a value that nobody can write")
        self.batches.append(batch)
        self._log.commit(batch)


@pytest.fixture
def log() -> Partitioned:
    Diverging.other = False
    return Partitioned()


@pytest.fixture
def world(log: Partitioned) -> World:
    return World(REGISTRY, wrap=log.wrap)


def dead_worker(world: World, workflow_id: str) -> None:
    """Start a run whose worker takes the task, says so, and never reports again."""
    world.held.add("work")
    world.start_workflow(workflow_id, "working")
    task = world.held_tasks.pop()
    world.log.submit([cm.StartActivity(workflow_id, number=1, token=task.token, worker="dead")])
    world.settle()


def is_retried(world: World, workflow_id: str) -> bool:
    world.held.clear()
    world.advance(5)
    return bool(world.state(workflow_id).status is Status.COMPLETED)


def test_a_lease_that_expired_in_an_aborted_batch_survives_a_loss_of_other_partitions(
    world: World, log: Partitioned
) -> None:
    dead_worker(world, STAYS)
    log.aborts = 1
    log.lose(1)
    world.clock.at += LEASE_S * 1_000_000
    world.settle()
    assert is_retried(world, STAYS)
    assert world.names(STAYS).count("ActivityAttemptFailed") == 1


@pytest.mark.parametrize("aborts", [1, 2, 5])
def test_it_survives_any_number_of_aborts_and_expires_once(
    world: World, log: Partitioned, aborts: int
) -> None:
    dead_worker(world, STAYS)
    world.clock.at += LEASE_S * 1_000_000
    for _ in range(aborts):
        log.aborts = 1
        before = world.engine.counts.commands[cm.ExpireLease]
        assert world.engine.run_batch(0)
        assert world.engine.counts.commands[cm.ExpireLease] == before + 1, (
            "the same lease is not queued twice"
        )
        log.lose(1)
    world.settle()
    assert is_retried(world, STAYS)


def test_a_lease_of_a_lost_partition_is_dropped_and_starts_again_when_it_is_regained(
    world: World, log: Partitioned
) -> None:
    dead_worker(world, GOES)
    assert world.engine.leased == 1
    log.lose(1)
    world.engine.run_batch(0)
    assert world.engine.leased == 0
    world.clock.at += 3_600_000_000  # elsewhere the worker has reported all the time
    log.gain(1)
    world.settle()
    assert world.names(GOES).count("ActivityAttemptFailed") == 0
    assert world.engine.leased == 1


def test_a_report_in_an_aborted_batch_does_not_end_the_lease(world: World, log: Partitioned) -> None:
    dead_worker(world, STAYS)
    (task,) = world.store_port.tasks()
    log.raises.add(STAYS)
    world.log.submit([cm.CompleteActivity(STAYS, number=1, token=task.token, result=b'"x"')])
    world.settle()
    log.raises.clear()
    assert world.engine.leased == 1, "the report is a dead letter; the attempt is waited for"
    world.clock.at += LEASE_S * 1_000_000
    world.settle()
    assert is_retried(world, STAYS)


def test_a_suspended_run_is_resumed_though_its_batch_was_aborted_and_another_partition_went(
    world: World, log: Partitioned
) -> None:
    world.held.add("work")
    world.start_workflow(STAYS, "Changing")
    Diverging.other = True
    world.crash()
    world.log.submit(
        [cm.CompleteActivity(STAYS, number=1, token="no-such", result=b"1"), cm.CancelWorkflow(STAYS)]
    )
    world.settle()
    assert world.state(STAYS).status is Status.SUSPENDED
    Diverging.other = False
    log.aborts = 1
    world.crash()
    log.lose(1)
    world.settle()
    assert world.state(STAYS).status is not Status.SUSPENDED


def test_due_timers_of_an_aborted_batch_fire_once_after_another_partition_went(
    world: World, log: Partitioned
) -> None:
    world.start_workflow(STAYS, "working", delay_us=1_000_000)
    world.start_workflow(GOES, "working", delay_us=1_000_000)
    log.aborts = 2
    log.lose(1)
    world.clock.at += 1_000_000
    world.settle()
    assert world.names(STAYS).count("WorkflowBegun") == 1
    assert world.state(STAYS).status is Status.COMPLETED


def test_waiting_clients_are_asked_to_repeat_although_the_batch_that_said_so_was_aborted(
    world: World, log: Partitioned
) -> None:
    world.held.add("work")
    world.start_workflow(GOES, "working")
    request_id = world.ask(cm.AwaitWorkflow, GOES)
    world.settle()
    log.lose(1)
    log.aborts = 3
    world.settle()
    assert isinstance(world.replies[request_id], AskAgain)


def test_a_poisoned_command_is_found_while_a_partition_moves(world: World, log: Partitioned) -> None:
    log.raises.add("bad-0")
    for workflow_id in ("bad-0", "good-0", "good-1"):
        world.ask(cm.StartWorkflow, workflow_id, type="working")
    log.lose(1)
    for _ in range(6):
        log.aborts = 1  # a fence, in the middle of the search
        world.engine.run_batch(0)
    world.settle()
    (letter,) = world.medium.letters
    assert letter.reason == "poisoned"
    assert world.state("good-0").status is Status.COMPLETED
    assert world.state("bad-0") is None


def test_what_is_condemned_on_a_lost_partition_is_left_to_its_next_owner(
    world: World, log: Partitioned
) -> None:
    log.raises.add("bad-1")
    world.ask(cm.StartWorkflow, "bad-1", type="working")
    world.engine.run_batch(0)
    log.lose(1)
    log.raises.clear()
    world.settle()
    assert world.medium.letters == []
    assert world.state("bad-1") is not None
