"""Commands that workflows send each other, and answers that outlive a batch: on memory and in a
file, by a toy machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from perdure.adapters.sqlite.file import connect
from perdure.errors import CommitAborted
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.states import Status
from perdure.registry import Registry
from tests.simulation.programs import DEPLOYMENTS
from tests.simulation.relay import Relay
from tests.simulation.scenarios import SCENARIOS, play
from tests.simulation.world import InFile, InMemory, World

REGISTRY = Registry.of([Relay], [])


class Disk:
    """Wraps a log, and aborts the given number of its commits.

    Attributes:
        full: how many of the next commits fail.
    """

    def __init__(self) -> None:
        self.full = 0
        self._log: Any = None

    def wrap(self, port: Any, name: str) -> Any:
        if name != "log":
            return port
        self._log = port
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def commit(self, batch: Any) -> None:
        if self.full:
            self.full -= 1
            raise CommitAborted("the disk is full")
        self._log.commit(batch)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture(params=["memory", "file"])
def world(request: pytest.FixtureRequest, tmp_path: Path, disk: Disk) -> Iterator[World]:
    medium = InFile(tmp_path / "app.db") if request.param == "file" else InMemory()
    world = World(REGISTRY, medium=medium, wrap=disk.wrap)
    for workflow_id in ("a", "b"):
        world.start_workflow(workflow_id, "Relay")
    yield world
    world.close()


def letters(world: World) -> list[str]:
    """Reason and message of each dead letter."""
    if isinstance(world._medium, InMemory):
        return [f"{each.reason}: {each.message}" for each in world.medium.letters]
    assert isinstance(world._medium, InFile)
    with closing(connect(world._medium.path, 5.0)) as connection:
        return [row[0] for row in connection.execute("SELECT reason FROM dead_letters ORDER BY position")]


def got(world: World, workflow_id: str) -> list[Any]:
    """The messages that the workflow was sent, and accepted."""
    return [world.payloads.decode(event.input, list[Any], what="signal")[0]
            for event in world.events(workflow_id) if isinstance(event,
                ev.SignalReceived) and event.name == "put"]  # fmt: skip


def send(world: World, workflow_id: str, *sent: list[Any]) -> None:
    world.signal(workflow_id, "send", list(sent))


def test_a_workflow_gets_commands_in_order_also_those_it_sends_to_itself(world: World) -> None:
    send(world, "a", *(["put", "ab"[number % 2], number] for number in range(40)))
    assert got(world, "a") == list(range(0, 40, 2))
    assert got(world, "b") == list(range(1, 40, 2))
    world.crash()
    world.settle()
    assert len(got(world, "a") + got(world, "b")) == 40


def test_commands_and_the_events_that_cause_them_are_one(world: World, disk: Disk) -> None:
    disk.full = 3
    send(world, "a", ["put", "b", 1])
    assert got(world, "b") == [1]
    assert world.names("a").count("SignalReceived") == 1


def test_commands_that_were_sent_before_a_crash_are_taken_after_it(world: World) -> None:
    world.signal_later("a", "send", [["put", "b", 1], ["put", "b", 2]])
    world.engine.run_batch(0)
    assert got(world, "b") == []
    world.crash()
    world.settle()
    assert got(world, "b") == [1, 2]


def test_a_thousand_commands_of_one_batch_are_taken_once_each(world: World) -> None:
    send(world, "a", *(["put", "b", number] for number in range(1_000)))
    assert got(world, "b") == list(range(1_000))


def test_a_command_for_a_workflow_that_is_not_there_is_a_dead_letter(world: World) -> None:
    send(world, "a", ["put", "nobody", 1], ["put", "b", 2])
    assert got(world, "b") == [2]
    (letter,) = letters(world)
    assert letter.startswith("refused: ")
    assert "'nobody'" in letter


@pytest.mark.parametrize("workflow_id", ["", " ", "\0", "x" * 10_000, "workflow:toy/r/1/w"])
def test_a_hostile_id_does_not_affect_other_workflows(world: World, workflow_id: str) -> None:
    send(world, "a", ["put", workflow_id, 1], ["start", workflow_id], ["await", workflow_id], ["put", "b", 2])
    assert got(world, "b") == [2]
    world.crash()
    world.settle()
    assert got(world, "b") == [2]


def test_a_command_that_cannot_be_written_costs_the_command_that_caused_it(world: World) -> None:
    world.signal_later("a", "send", [["put", "b", 1], ["damage", "b"]])
    world.signal_later("b", "put", 2)
    world.settle()
    assert got(world, "b") == [2]
    assert [each.startswith("poisoned: ") for each in letters(world)] == [True]
    assert "SignalReceived" not in world.names("a")
    send(world, "a", ["put", "b", 3])
    assert got(world, "b") == [2, 3]


# ---- answers that outlive a batch


@pytest.mark.parametrize("crashes", [False, True])
def test_a_workflow_gets_the_end_of_another_once(world: World, crashes: bool) -> None:
    send(world, "a", ["await", "b"])
    assert got(world, "a") == []
    assert world.names("b") == ["WorkflowStarted", "AnswerPromised"]
    if crashes:
        world.crash()
    world.signal_later("b", "close")
    world.engine.run_batch(0)
    assert world.state("b").status is Status.COMPLETED
    if crashes:
        world.crash()
    world.settle()
    world.crash()
    world.settle()
    assert got(world, "a") == ["completed"]


def test_an_aborted_batch_that_closes_a_run_answers_once(world: World, disk: Disk) -> None:
    send(world, "a", ["await", "b"])
    disk.full = 3
    world.signal("b", "close")
    assert got(world, "a") == ["completed"]


@pytest.mark.parametrize(
    ("end", "said"), [(cm.TerminateWorkflow, "terminated"), (cm.CancelWorkflow, "cancelled")]
)
def test_every_end_is_answered(world: World, end: Any, said: str) -> None:
    send(world, "a", ["await", "b"], ["await", "b"])
    world.ask(end, "b", reason="enough")
    world.settle()
    assert got(world, "a") == [said, said]


def test_a_run_terminated_by_another_start_answers_its_waiters(world: World) -> None:
    send(world, "a", ["await", "b"])
    world.start_workflow("b", "Relay", if_running="terminate")
    assert got(world, "a") == ["terminated"]


def test_waiting_for_an_ended_or_unknown_run_returns_immediately(world: World) -> None:
    world.signal("b", "close")
    send(world, "a", ["await", "b"], ["await", "nobody"])
    assert got(world, "a") == ["completed", "Refused"]


def test_a_workflow_that_waits_for_itself_gets_no_answer_and_blocks_no_other(world: World) -> None:
    send(world, "a", ["await", "a"])
    world.signal("a", "close")
    assert world.state("a").status is Status.COMPLETED
    assert got(world, "a") == []


@pytest.mark.parametrize(
    "reply_to",
    [
        "workflow:novel/run-1/1/a",
        "workflow:novel/run-1/1/" + "x" * 300,
        "workflow:",
        "workflow:toy/r/1/\ud800",
    ],
)
def test_an_answer_that_nothing_here_takes_is_a_dead_letter_and_stops_no_other(
    world: World, reply_to: str
) -> None:
    world.log.submit(
        [
            cm.StartWorkflow("c", type="Relay", request_id="r1", reply_to=reply_to),
            cm.AwaitWorkflow("c", request_id="r2", reply_to=reply_to),
            cm.SignalWorkflow("c", name="close", request_id="r3", reply_to=reply_to),
            cm.StartWorkflow("d", type="NoSuchType", request_id="r4", reply_to=reply_to),
        ]
    )
    world.settle()
    assert world.state("c").status is Status.COMPLETED
    assert "AnswerPromised" not in world.names("c")
    found = [each.partition(":")[0] for each in letters(world)]
    assert found == (["unanswerable"] * 4 if reply_to == "workflow:novel/run-1/1/a" else ["refused"])
    assert not [report for report in world.reports if "bug" in report]


def test_a_promise_that_nothing_here_can_keep_any_more_does_not_keep_the_run_from_closing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perdure.core.registry import ANSWERS

    send(world, "a", ["await", "b"])
    monkeypatch.delitem(ANSWERS, "toy")
    world.crash()
    world.signal("b", "close")
    assert world.state("b").status is Status.COMPLETED
    (letter,) = letters(world)
    assert letter.startswith("unanswerable: ")
    assert "'toy'" in letter


def test_a_client_and_a_workflow_wait_for_the_same_run(world: World) -> None:
    send(world, "a", ["await", "b"])
    request_id = world.ask(cm.AwaitWorkflow, "b")
    world.settle()
    world.signal("b", "close")
    assert type(world.replies[request_id]).__name__ == "Closed"
    assert got(world, "a") == ["completed"]


def test_the_scenario_of_the_sweeps_is_about_messages_that_arrive() -> None:
    story = play(World(DEPLOYMENTS["first"]), SCENARIOS["messages between workflows"])
    results = {workflow_id: story.world.value(workflow_id) for workflow_id in "abcd"}
    assert results == {
        "a": [3, "Refused", 7, "completed", "completed"],
        "b": [1, 5, 8],
        "c": [2, "completed"],
        "d": [6],
    }
    assert len(story.world.medium.letters) == 3, (
        "for a workflow that is not there, and for two that have just closed"
    )
