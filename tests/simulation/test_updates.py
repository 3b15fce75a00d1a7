"""Updates: writes with an answer, on memory and in a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.replies import Accepted, Answered, QueryRaised, Refused
from perdure.model.states import Status
from tests.simulation.programs import DEPLOYMENTS
from tests.simulation.world import InFile, InMemory, World


@pytest.fixture(params=["memory", "file"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    medium = InFile(tmp_path / "app.db") if request.param == "file" else InMemory()
    world = World(DEPLOYMENTS["first"], medium=medium)
    world.start_workflow("cart", "Cart")
    yield world
    world.close()


def update(world: World, request_id: str, name: str, *args: Any, workflow_id: str = "cart") -> Any:
    """Send one; the first answer."""
    encoded = world.encoded(args)
    world.ask(cm.UpdateWorkflow, workflow_id, request_id=request_id, name=name, input=encoded)
    world.settle()
    return world.replies[request_id]


def wait(world: World, update_id: str, request_id: str = "waits", **fields: Any) -> Any:
    """Ask for the answer; None while there is none."""
    world.replies.pop(request_id, None)
    world.ask(cm.AwaitWorkflow, "cart", request_id=request_id, update_id=update_id, **fields)
    world.settle()
    return world.replies.get(request_id)


def test_it_is_accepted_handled_and_answered(world: World) -> None:
    assert isinstance(update(world, "u-1", "add", 5), Accepted)
    assert wait(world, "u-1") == Answered("waits", b"1")
    assert world.names("cart")[1:] == [
        "UpdateAccepted",
        "ActivityScheduled",
        "ActivityCompleted",
        "UpdateCompleted",
    ]


def test_a_rejected_update_leaves_no_event(world: World) -> None:
    told = update(world, "u-1", "add", -1)
    assert isinstance(told, Refused)
    assert told.code == "rejected"
    assert "less than nothing" in told.message
    assert world.names("cart") == ["WorkflowStarted"]
    assert isinstance(update(world, "u-1", "add", 1), Accepted), "its id was not used"


@pytest.mark.parametrize(
    ("name", "args", "code"),
    [("nothing", (), "unknown_name"), ("add", ("x",), "bad_input"), ("add", (), "bad_input")],
)
def test_bad_input_is_refused_and_leaves_no_event(world: World, name: str, args: Any, code: str) -> None:
    told = update(world, "u-1", name, *args)
    assert isinstance(told, Refused)
    assert told.code == code
    assert world.names("cart") == ["WorkflowStarted"]


def test_one_whose_handler_raises_fails_and_the_run_continues(world: World) -> None:
    update(world, "u-1", "add", 101)
    told = wait(world, "u-1")
    assert isinstance(told, QueryRaised)
    assert told.failure.message == "too dear"
    assert world.state("cart").status is Status.RUNNING
    update(world, "u-2", "add", 1)
    assert wait(world, "u-2") == Answered("waits", b"1")


def test_an_answer_can_be_asked_for_again_also_after_a_crash_and_after_the_end(world: World) -> None:
    update(world, "u-1", "add", 1)
    update(world, "u-2", "close")
    run_id = world.state("cart").run_id
    world.crash()
    for number in range(3):
        assert wait(world, "u-1", f"again {number}", run_id=run_id) == Answered(f"again {number}", b"1")
    assert isinstance(wait(world, "u-9"), Refused)


def test_a_run_does_not_end_before_its_updates_and_the_answer_outlives_a_crash(world: World) -> None:
    update(world, "u-1", "add", 1, 60)
    update(world, "u-2", "close")
    assert world.state("cart").status is Status.RUNNING
    assert wait(world, "u-1") is None
    world.crash()
    assert wait(world, "u-1") is None
    world.advance(61)
    assert world.replies["waits"] == Answered("waits", b"1")
    assert world.state("cart").status is Status.COMPLETED


@pytest.mark.parametrize("end", [cm.TerminateWorkflow, cm.CancelWorkflow])
def test_updates_of_a_run_that_is_ended_fail(world: World, end: Any) -> None:
    update(world, "u-1", "add", 1, 60)
    assert wait(world, "u-1") is None
    world.ask(end, "cart")
    world.settle()
    assert isinstance(world.replies["waits"], QueryRaised)


def test_a_repeated_update_acts_once(world: World) -> None:
    update(world, "u-1", "add", 1)
    again = update(world, "u-1", "add", 1)
    assert isinstance(again, Accepted)
    assert not again.is_new
    assert isinstance(update(world, "u-1", "add", 2), Refused)
    assert world.names("cart").count("UpdateAccepted") == 1


def test_several_run_at_the_same_time_in_the_order_of_acceptance(world: World) -> None:
    for number in range(5):
        encoded = world.encoded((number,))
        world.ask(cm.UpdateWorkflow, "cart", request_id=f"u-{number}", name="add", input=encoded)
    world.settle()
    update(world, "end", "close")
    assert world.payloads.decode(world.state("cart").result, list[int], what="result") == [0, 1, 2, 3, 4]


def test_a_suspended_run_takes_no_updates(world: World) -> None:
    world.registry = type(world.registry)()
    world.crash()
    world.settle()
    told = update(world, "u-1", "add", 1)
    assert isinstance(told, Refused)
    assert told.code == "suspended"
    world.registry = DEPLOYMENTS["first"]
    world.crash()
    world.settle()
    assert isinstance(update(world, "u-1", "add", 1), Accepted)


@pytest.mark.parametrize("is_open", [True, False])
def test_an_update_starts_the_workflow_if_it_does_not_run(world: World, is_open: bool) -> None:
    workflow_id = "cart" if is_open else "new"
    fields: dict[str, Any] = {"type": "Cart", "input": b"[]", "if_running": "attach"}
    world.ask(
        cm.StartWorkflow,
        workflow_id,
        request_id="u-1",
        update_name="add",
        update_input=world.encoded((7,)),
        **fields,
    )
    world.settle()
    assert isinstance(world.replies["u-1"], Accepted)
    events: list[type[Any]] = [type(event) for event in world.events(workflow_id)]
    assert events.count(ev.UpdateAccepted) == events.count(ev.WorkflowStarted) == 1


def test_workflows_update_each_other(world: World) -> None:
    world.start_workflow("s", "shops")
    world.crash()
    world.settle()
    world.advance(2)
    result = world.payloads.decode(world.state("s").result, list[str], what="result")
    assert result == ["1", "rejected", "CardDeclined", "closed"]


def test_the_answers_to_many_updates_are_read_without_the_whole_history_for_each(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(200):
        encoded = world.encoded((number % 100,))
        world.ask(cm.UpdateWorkflow, "cart", request_id=f"u-{number}", name="add", input=encoded)
    world.settle()
    records = len(world.history("cart"))
    pages: list[int] = []
    page = world.store_port.page

    def counted(workflow_id: str, run_id: str, from_event_id: int, limit: int = 0) -> Any:
        pages.append(from_event_id)
        return page(workflow_id, run_id, from_event_id, limit)

    def never(*_: Any) -> Any:
        raise AssertionError("the whole history is read")

    monkeypatch.setattr(world.store_port, "page", counted)
    with monkeypatch.context() as patched:
        patched.setattr(world.engine.runs, "history", never)
        for number in range(200):
            world.ask(cm.AwaitWorkflow, "cart", request_id=f"w-{number}", update_id=f"u-{number}")
        world.settle()
    told = {number: world.replies.get(f"w-{number}") for number in range(200)}
    assert [number for number, reply in told.items() if not isinstance(reply, Answered)] == []
    assert len(pages) <= records
    world.crash()
    assert wait(world, "u-7") == Answered("waits", b"8")


def test_an_update_that_ends_in_the_batch_that_asks_for_it_is_answered(world: World) -> None:
    world.ask(cm.UpdateWorkflow, "cart", request_id="u-1", name="add", input=b"[101]")
    world.ask(cm.AwaitWorkflow, "cart", request_id="w-1", update_id="u-1")
    world.settle()
    told = world.replies["w-1"]
    assert isinstance(told, QueryRaised)
    assert told.failure.message == "too dear"
