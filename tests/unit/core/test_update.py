"""The machine of one update."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.run import fold, waits_of
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.replies import Accepted, Answered, QueryRaised, Refused
from perdure.model.states import Wait
from tests.unit.core.driven import BROKEN, NOW, Driven

CALLER = "workflow:message/run-9/2/caller"


def ask(run: Driven, request_id: str = "u-1", **fields: Any) -> Any:
    return run.ask(cm.UpdateWorkflow, request_id=request_id, **{"name": "add", "input": b"[1]", **fields})


@pytest.fixture
def run() -> Driven:
    driven = Driven()
    ask(driven)
    return driven


def test_it_is_accepted_under_its_number_and_id() -> None:
    decision = ask(Driven())
    assert decision.events == (ev.UpdateAccepted(1, "u-1", "add", b"[1]"),)
    assert decision.reply == Accepted("u-1", "run-1")


def test_one_without_an_id_is_known_by_its_number(run: Driven) -> None:
    assert ask(run, "").events == (ev.UpdateAccepted(2, "2", "add", b"[1]"),)


def test_a_repeated_update_acts_once(run: Driven) -> None:
    decision = ask(run)
    assert decision.events == ()
    assert decision.reply == Accepted("u-1", "run-1", is_new=False)
    differs = ask(run, name="remove")
    assert isinstance(differs.reply, Refused)
    assert differs.reply.code == "bad_input"


@pytest.mark.parametrize(
    ("event", "reply"),
    [
        (ev.UpdateCompleted(1, b"42"), Answered("", b"42")),
        (ev.UpdateFailed(1, BROKEN), QueryRaised("", BROKEN)),
    ],
    ids=["completed", "failed"],
)
def test_waiting_callers_are_answered_when_the_update_ends(run: Driven, event: Any, reply: Any) -> None:
    from msgspec.structs import replace

    run.events(cm.AwaitWorkflow, request_id="r-1", reply_to=CALLER, update_id="u-1")
    run.record(event)
    assert run.written.subjects == [("run-1", "update/u-1")]
    assert run.written.replies == [(CALLER, replace(reply, request_id="r-1"))]
    assert run.state.open_updates == {}
    with pytest.raises(KeyError):
        run.record(event)


def test_one_whose_run_is_ended_from_outside_has_failed(run: Driven) -> None:
    run.events(cm.AwaitWorkflow, request_id="r-1", reply_to=CALLER, update_id="u-1")
    run.record(ev.WorkflowTerminated("stop"))
    ((reply_to, reply),) = run.written.replies
    assert reply_to == CALLER
    assert isinstance(reply, QueryRaised)
    assert "ended before the update" in reply.failure.message


def test_one_that_runs_is_what_the_run_waits_for(run: Driven) -> None:
    assert waits_of(run.state) == (Wait("update", "add", 1, 0, NOW),)


def test_updates_are_known_again_when_the_run_is_folded(run: Driven) -> None:
    events: list[Any] = [
        ev.WorkflowStarted("Order", b"[]", 311, 7, request_id="start-1"),
        ev.UpdateAccepted(1, "u-1", "add", b"[1]"),
    ]
    folded = fold([ev.EventRecord("order-1", "run-1", 1, NOW, -1, -1, b"", events)])
    assert folded.updates == run.state.updates == {"u-1": 1}
    assert folded.open_updates == run.state.open_updates
