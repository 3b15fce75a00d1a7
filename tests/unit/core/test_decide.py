"""Requests act once; refused ones leave no event."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.machines.promise import closed_reply
from perdure.core.run import fold
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.replies import Accepted, Refused
from perdure.model.states import Status
from tests.unit.core.driven import NOW, Driven

REQUESTS: list[tuple[Any, dict[str, Any], type[Any]]] = [
    (cm.SignalWorkflow, {"name": "poke"}, ev.SignalReceived),
    (cm.CancelWorkflow, {"reason": "enough"}, ev.WorkflowCancelRequested),
    (cm.TerminateWorkflow, {"reason": "enough"}, ev.WorkflowTerminated),
]


@pytest.mark.parametrize(("kind", "fields", "event"), REQUESTS)
def test_a_request_is_recorded_and_accepted(kind: Any, fields: dict[str, Any], event: type[Any]) -> None:
    decision = Driven().ask(kind, request_id="r-1", **fields)
    assert [type(each) for each in decision.events] == [event]
    assert decision.reply == Accepted("r-1", "run-1")


@pytest.mark.parametrize(("kind", "fields", "event"), REQUESTS)
def test_the_same_request_again_acts_once_and_gets_the_same_answer(
    kind: Any, fields: dict[str, Any], event: type[Any]
) -> None:
    run = Driven()
    run.ask(kind, request_id="r-1", **fields)
    for _ in range(2):
        again = run.ask(kind, request_id="r-1", **fields)
        assert again.events == ()
        assert again.reply == Accepted("r-1", "run-1", is_new=False)


def test_a_request_repeated_before_a_delayed_run_begins_acts_once_and_gets_the_same_answer() -> None:
    run = Driven(delayed_until=NOW + 1)
    run.ask(cm.SignalWorkflow, name="poke", request_id="r-1")
    again = run.ask(cm.SignalWorkflow, name="poke", request_id="r-1")
    assert (again.events, again.reply) == ((), Accepted("r-1", "run-1", is_new=False))


def test_requests_without_an_id_are_never_the_same() -> None:
    run = Driven()
    for _ in range(2):
        assert len(run.events(cm.SignalWorkflow, name="poke")) == 1


def test_a_request_repeated_after_the_end_gets_its_answer() -> None:
    run = Driven()
    run.ask(cm.SignalWorkflow, name="poke", request_id="r-1")
    run.record(ev.WorkflowCompleted(b"1"))
    assert run.ask(cm.SignalWorkflow, name="poke", request_id="r-1").reply == Accepted(
        "r-1", "run-1", is_new=False
    )


def test_a_new_request_after_the_end_is_refused_with_the_status() -> None:
    run = Driven()
    run.record(ev.WorkflowCompleted(b"1"))
    decision = run.ask(cm.SignalWorkflow, name="poke", request_id="r-2")
    assert isinstance(decision.reply, Refused)
    assert decision.reply.code == "closed"
    assert "is completed" in decision.reply.message
    assert decision.events == ()


def test_waiting_for_a_closed_run_returns_its_end() -> None:
    run = Driven()
    run.record(ev.WorkflowTerminated("enough"))
    reply = closed_reply(run.state, "r-1")
    assert (reply.status, reply.reason, reply.run_id) == (Status.TERMINATED, "enough", "run-1")


def record(first: int, *events: Any) -> ev.EventRecord:
    return ev.EventRecord("order-1", "run-1", first, NOW + first, -1, -1, b"", list(events))


STARTED = ev.WorkflowStarted("Order", b"[]", 311, 7)


def test_a_history_folds_to_the_state_that_lived_it() -> None:
    state = fold(
        [record(1, STARTED, ev.SignalReceived("poke", b"[]", "r-1")), record(3, ev.WorkflowCompleted(b"1"))]
    )
    assert (state.last_event_id, state.started_at, state.closed_at) == (3, NOW + 1, NOW + 3)
    assert (state.result, list(state.requests)) == (b"1", [("signal", "r-1")])


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([record(1, STARTED), record(3, ev.WorkflowCompleted(b"1"))], "gap after event 1"),
        ([record(1, STARTED), record(1, ev.WorkflowCompleted(b"1"))], "gap after event 1"),
        ([record(2, STARTED)], "does not begin"),
        ([record(1, ev.WorkflowCompleted(b"1"))], "does not begin"),
        ([], "empty"),
    ],
)
def test_a_history_with_a_gap_is_refused(records: list[ev.EventRecord], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fold(records)
