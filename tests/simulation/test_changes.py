"""Runs that continue as new, and patches of their code, on memory and in a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.model import commands as cm
from perdure.model.failure import FailureInfo
from perdure.model.replies import Accepted, Answered, Closed, Refused
from perdure.model.states import Status
from perdure.model.tokens import TokenAddress
from tests.simulation.programs import DEPLOYMENTS
from tests.simulation.world import InFile, InMemory, World


@pytest.fixture(params=["memory", "file"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    medium = InFile(tmp_path / "app.db") if request.param == "file" else InMemory()
    world = World(DEPLOYMENTS["first"], medium=medium)
    yield world
    world.close()


def result(world: World, workflow_id: str) -> Any:
    return world.payloads.decode(world.state(workflow_id).result, Any, what="result")


def count(world: World, *amounts: int) -> None:
    for amount in amounts:
        world.signal("c", "add", amount)
    world.advance(2)


@pytest.mark.parametrize("crashes", [False, True])
def test_a_run_continues_as_new_once_its_handlers_have_ended(world: World, crashes: bool) -> None:
    world.start_workflow("c", "Counting")
    first = world.state("c").run_id
    world.ask(cm.AwaitWorkflow, "c", run_id=first, request_id="waits")
    count(world, 1, 2)
    if crashes:
        world.crash()
        world.ask(cm.AwaitWorkflow, "c", run_id=first, request_id="waits")
        world.settle()
    second = world.state("c").run_id
    assert second != first
    assert world.state("c").status is Status.RUNNING
    count(world, 3, 4)
    assert result(world, "c") == "10, new"
    told = world.replies["waits"]
    assert isinstance(told, Closed)
    assert told.status is Status.COMPLETED
    assert told.run_id == world.state("c").run_id not in (first, second)
    for run_id in (first, second):
        world.ask(cm.AwaitWorkflow, "c", run_id=run_id, request_id=f"later {run_id}")
        world.settle()
        later = world.replies[f"later {run_id}"]
        assert isinstance(later, Closed)
        assert later.run_id == told.run_id


def test_a_signal_to_the_first_run_goes_to_the_one_that_continues_it(world: World) -> None:
    world.start_workflow("c", "Counting")
    first = world.state("c").run_id
    count(world, 1, 2)
    for number in (3, 4):
        world.ask(cm.SignalWorkflow, "c", run_id=first, name="add", input=world.encoded((number,)))
    world.settle()
    world.advance(2)
    assert result(world, "c") == "10, new"


def test_a_start_that_is_repeated_is_known_after_the_run_has_continued(world: World) -> None:
    asked: dict[str, Any] = {"type": "Counting", "input": world.encoded(()), "request_id": "s-1"}
    world.ask(cm.StartWorkflow, "c", **asked)
    world.settle()
    count(world, 1, 2)
    run_id = world.state("c").run_id
    world.replies.pop("s-1")
    world.ask(cm.StartWorkflow, "c", **asked)
    world.settle()
    assert isinstance(again := world.replies["s-1"], Accepted)
    assert not again.is_new
    assert world.state("c").run_id == run_id


def texts(world: World) -> list[str]:
    """The texts of the named token and of the other one of the current run."""
    told: list[str] = world.payloads.decode(world.state("m").view, list[str], what="view")
    return told


def answer(world: World, text: str, value: int = 42, **fields: Any) -> Any:
    request_id = world.ask(cm.ResolveToken, "m", token=text, value=b"%d" % value, **fields)
    world.settle()
    return world.replies[request_id]


def call(world: World, request_id: str, *, crashes: bool = False) -> Any:
    """Signal the run under an id, perhaps once more; the reply."""
    world.replies.pop(request_id, None)
    if crashes:
        world.crash()
    return world.signal("m", "call", request_id=request_id)


@pytest.mark.parametrize("crashes", [False, True])
@pytest.mark.parametrize("round", [1, 2, 3])
def test_a_named_token_moves_to_the_next_run_with_its_text(world: World, round: int, crashes: bool) -> None:
    """It is answered in any of the three runs, and the last one awaits it."""
    world.start_workflow("m", "Moves")
    first = texts(world)[0]
    for number in (1, 2, 3):
        assert texts(world) == [first, texts(world)[1], f"{number} {number == 1}"]
        if number == round:
            assert isinstance(answer(world, first), Accepted)
        call(world, f"call-{number}", crashes=crashes)
    assert result(world, "m") == f"42 {False} {True}"
    again = answer(world, first)
    assert isinstance(again, Accepted)
    assert not again.is_new
    assert "with another value" in answer(world, first, 43).message


@pytest.mark.parametrize("crashes", [False, True])
def test_a_named_token_keeps_its_failure_and_its_deadline(world: World, crashes: bool) -> None:
    world.start_workflow("m", "Moves")
    failure = FailureInfo("perdure.errors:Failure", "no", is_final=True)
    world.ask(cm.FailToken, "m", token=texts(world)[0], failure=failure)
    world.settle()
    for number in (1, 2, 3):
        call(world, f"call-{number}", crashes=crashes)
    assert result(world, "m") == "failed: no"
    world.start_workflow("m", "Moves")
    text = texts(world)[0]
    for number in (4, 5, 6):
        world.advance(1_000)
        call(world, f"call-{number}", crashes=crashes)
    world.advance(599)
    assert world.state("m").status is Status.RUNNING
    world.advance(1)
    assert result(world, "m") == "late"
    assert answer(world, text).code == "token_closed"


def test_a_token_without_a_name_is_closed_when_its_run_continues_as_new(world: World) -> None:
    world.start_workflow("m", "Moves")
    first_run, (_, answered, _) = world.state("m").run_id, texts(world)
    answer(world, answered, 1)
    call(world, "call-1")
    _, open_, _ = texts(world)
    call(world, "call-2")
    assert isinstance(again := answer(world, answered, 1), Accepted)
    assert not again.is_new
    assert answer(world, answered, 2).code == "token_closed"
    refused = answer(world, open_)
    assert refused.code == "token_closed"
    assert "only a token with a name moves" in refused.message
    forged = TokenAddress("m", first_run, 2, "0" * 32).text
    for text in (forged, TokenAddress("m", "run-77", 2, "0" * 32).text):
        assert answer(world, text).code == "unknown_token"
    assert answer(world, open_, run_id="other").code == "unknown_token"


@pytest.mark.parametrize("crashes", [False, True])
def test_a_signal_that_is_repeated_after_the_run_has_continued_is_not_handled_again(
    world: World, crashes: bool
) -> None:
    world.start_workflow("m", "Moves")
    for number in (1, 2):
        first = call(world, f"call-{number}")
        second = world.state("m").run_id
        for earlier in range(1, number + 1):
            again = call(world, f"call-{earlier}", crashes=crashes)
            assert isinstance(again, Accepted)
            assert not again.is_new
        assert world.state("m").run_id == second != first.run_id
        assert "SignalReceived" not in world.names("m")
    world.replies.pop("call-1")
    other = world.ask(cm.SignalWorkflow, "m", name="call", input=b"[1]", request_id="call-1")
    world.settle()
    assert isinstance(refused := world.replies[other], Refused)
    assert refused.code == "bad_input"


@pytest.mark.parametrize("crashes", [False, True])
def test_the_answer_to_an_update_is_there_after_its_run_has_continued(world: World, crashes: bool) -> None:
    world.start_workflow("m", "Moves")
    for number in (1, 2):
        update = {"name": "count", "input": b"[7]", "request_id": f"update-{number}"}
        world.ask(cm.UpdateWorkflow, "m", **update)
        world.settle()
        run_id = world.state("m").run_id
        if crashes:
            world.crash()
        del world.replies[f"update-{number}"]
        world.ask(cm.UpdateWorkflow, "m", **update)
        for each in range(1, number + 1):
            world.replies.pop(f"answer-{each}", None)
            world.ask(cm.AwaitWorkflow, "m", update_id=f"update-{each}", request_id=f"answer-{each}")
        world.settle()
        assert isinstance(again := world.replies[f"update-{number}"], Accepted)
        assert not again.is_new
        for each in range(1, number + 1):
            assert isinstance(answered := world.replies[f"answer-{each}"], Answered)
            assert answered.result == b"7"
        assert world.state("m").run_id == run_id


def test_a_run_that_continues_without_waiting_pauses(world: World) -> None:
    world.start_workflow("h", "hasty", 1_000_000)
    batches = world.engine.batches
    world.advance(10)
    assert world.engine.batches - batches < 30
    assert world.state("h").status is Status.RUNNING
    world.ask(cm.TerminateWorkflow, "h")
    world.settle()
    assert world.state("h").status is Status.TERMINATED


def test_a_child_that_continues_as_new_is_the_same_child(world: World) -> None:
    world.start_workflow("k", "counts_by_a_child")
    for _ in range(2):
        for _ in range(2):
            world.signal("counting", "add", 5)
        world.advance(2)
    assert result(world, "k") == "20, new"
    assert world.state("counting").parent == "k"


def test_a_client_of_an_early_run_waits_for_the_current_one_without_reading_those_between(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start_workflow("long", "hasty", 40)
    first = world.run_ids["long"][0]
    second = world.folded_run(world.store_port.events("long", first)).next_run_id
    world.advance(20)
    reads: list[str] = []
    history = world.engine.runs.history

    def counted(workflow_id: str, run_id: str) -> Any:
        reads.append(run_id)
        return history(workflow_id, run_id)

    monkeypatch.setattr(world.engine.runs, "history", counted)
    request_id = world.ask(cm.AwaitWorkflow, "long", run_id=second)
    world.settle()
    assert request_id not in world.replies
    assert reads == [second]
    monkeypatch.undo()
    world.advance(60)
    assert isinstance(world.replies[request_id], Closed)


def test_a_cancelled_parent_cancels_a_child_that_has_continued_as_new(world: World) -> None:
    world.start_workflow("k", "counts_by_a_child")
    for _ in range(2):
        world.signal("counting", "add", 5)
    world.advance(2)
    world.ask(cm.CancelWorkflow, "k")
    world.settle()
    assert world.state("counting").status is Status.CANCELLED
    assert world.state("k").status is Status.CANCELLED


def test_runs_that_have_passed_a_place_take_the_old_branch_and_others_the_new_one(world: World) -> None:
    world.registry = DEPLOYMENTS["before the patch"]
    world.crash()
    for workflow_id in ("passed", "waiting"):
        world.start_workflow(workflow_id, "Amended")
    world.signal("passed", "call")
    world.registry = DEPLOYMENTS["patched"]
    world.crash()
    world.settle()
    world.start_workflow("new", "Amended")
    for workflow_id in ("waiting", "new"):
        world.signal(workflow_id, "call")
    world.crash()
    for workflow_id in ("passed", "waiting", "new"):
        world.signal(workflow_id, "call")
    assert result(world, "passed") == ["before", "old", "False"]
    assert result(world, "waiting") == result(world, "new") == ["before", "first new", "second new", "True"]
    assert world.names("new").count("PatchApplied") == 1
