"""A request id repeats one request; for another one it is refused, and ids of different kinds do
not meet."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.machine import Stamp
from perdure.core.requests import CARRIED, CARRIED_BYTES, carried
from perdure.core.run import decide, fold
from perdure.core.start import Outcome, StartDecision, decide_start
from perdure.core.state import RunState
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.replies import Accepted, Refused

STAMP = Stamp(2_000, lambda: "t")


def start(**changes: Any) -> cm.StartWorkflow:
    fields: dict[str, Any] = {"type": "Order", "input": b'["burrata"]', "request_id": "r-1", **changes}
    return cm.StartWorkflow("order-1", **fields)


def run_of(*events: ev.AnyEvent, **started: Any) -> RunState:
    fields: dict[str, Any] = {
        "type": "Order",
        "input": b'["burrata"]',
        "python": 311,
        "seed": 1,
        "request_id": "r-1",
        **started,
    }
    first: ev.AnyEvent = ev.WorkflowStarted(**fields)
    return fold([ev.EventRecord("order-1", "run-1", 1, 1_000, -1, -1, b"", [first, *events])])


def _is_refused(decision: StartDecision) -> bool:
    if decision.outcome is not Outcome.ANSWER:
        return False
    reply = decision.reply
    return isinstance(reply, Refused) and reply.code == "bad_input" and "another start" in reply.message


@pytest.mark.parametrize(
    "changes",
    [{"type": "Refund"}, {"input": b'["pizza"]'}, {"attributes": b'{"a":1}'}, {"timeout_us": 7}],
    ids=lambda changes: next(iter(changes)),
)
@pytest.mark.parametrize("end", [(), (ev.WorkflowCompleted(b"1"),)], ids=["open", "closed"])
def test_a_start_with_the_id_of_another_start_is_refused(
    changes: dict[str, Any], end: tuple[Any, ...]
) -> None:
    run = run_of(*end)
    assert decide_start(run, start()).reply == Accepted("r-1", "run-1", is_new=False)
    assert _is_refused(decide_start(run, start(**changes)))
    assert _is_refused(decide_start(run, start(**changes, if_running="attach")))


def test_a_start_with_another_signal_than_the_one_it_came_with_is_refused() -> None:
    run = run_of(ev.SignalReceived("add", b"[1]", ""))
    same = start(signal_name="add", signal_input=b"[1]", if_running="attach")
    assert decide_start(run, same).reply == Accepted("r-1", "run-1", is_new=False)
    assert _is_refused(decide_start(run, start(signal_name="add", signal_input=b"[2]", if_running="attach")))


def test_a_start_that_was_attached_is_known_by_its_signal() -> None:
    run = run_of(ev.SignalReceived("add", b"[1]", "r-2"))
    same = start(request_id="r-2", signal_name="add", signal_input=b"[1]", if_running="attach")
    assert decide_start(run, same).reply == Accepted("r-2", "run-1", is_new=False)
    other = start(request_id="r-2", signal_name="add", signal_input=b"[2]", if_running="attach")
    assert _is_refused(decide_start(run, other))


SENT = [
    (
        ev.SignalReceived("add", b"[1]", "r-2"),
        cm.SignalWorkflow("order-1", "", "r-2", name="add", input=b"[1]"),
    ),
    (ev.WorkflowCancelRequested("late", "r-2"), cm.CancelWorkflow("order-1", "", "r-2", reason="late")),
]
OTHER = [
    cm.SignalWorkflow("order-1", "", "r-2", name="add", input=b"[2]"),
    cm.CancelWorkflow("order-1", "", "r-2", reason="changed my mind"),
]


@pytest.mark.parametrize(
    ("event", "command", "other"), [(*sent, other) for sent, other in zip(SENT, OTHER, strict=True)]
)
@pytest.mark.parametrize("end", [(), (ev.WorkflowCompleted(b"1"),)], ids=["open", "closed"])
def test_a_request_is_repeated_by_its_id_and_content(
    event: Any, command: Any, other: Any, end: tuple[Any, ...]
) -> None:
    run = run_of(event, *end)
    repeated = decide(run, command, STAMP)
    assert (repeated.events, repeated.reply) == ((), Accepted("r-2", "run-1", is_new=False))
    refused = decide(run, other, STAMP)
    assert refused.events == ()
    assert isinstance(refused.reply, Refused)
    assert "another" in refused.reply.message


def test_ids_of_different_kinds_do_not_meet() -> None:
    signal = cm.SignalWorkflow("order-1", "", "r-1", name="add", input=b"[1]")
    decision = decide(run_of(), signal, STAMP)
    assert decision.events == (ev.SignalReceived("add", b"[1]", "r-1"),)
    assert decision.reply == Accepted("r-1", "run-1")
    run = run_of(ev.SignalReceived("add", b"[1]", "r-2"))
    cancel = decide(run, cm.CancelWorkflow("order-1", "", "r-2", reason="late"), STAMP)
    assert cancel.events == (ev.WorkflowCancelRequested("late", "r-2"),)
    assert (
        decide_start(run, start(request_id="r-2", if_running="terminate")).outcome
        is Outcome.TERMINATE_AND_START
    )


def test_what_a_codec_has_made_is_not_compared_since_it_may_differ_each_time() -> None:
    run = run_of(ev.SignalReceived("add", b"\0aes\0one", "r-2"), input=b"\0aes\0one")
    assert decide_start(run, start(input=b"\0aes\0two")).reply == Accepted("r-1", "run-1", is_new=False)
    again = cm.SignalWorkflow("order-1", "", "r-2", name="add", input=b"\0aes\0two")
    assert decide(run, again, STAMP).reply == Accepted("r-2", "run-1", is_new=False)


def test_a_request_without_an_id_is_never_a_repetition() -> None:
    signal = cm.SignalWorkflow("order-1", name="add", input=b"[1]")
    assert decide(run_of(ev.SignalReceived("add", b"[1]", "")), signal, STAMP).events


def test_a_run_that_continues_another_knows_the_latest_requests_of_the_runs_before() -> None:
    signals = [ev.SignalReceived("call", b"[]", f"s-{number}") for number in range(CARRIED + 1)]
    run = run_of(*signals, requests=(ev.CarriedRequest("signal", "early", 1),))
    known = carried(run.requests)
    assert len(known) == CARRIED
    assert (known[0].id, known[-1].id) == ("s-1", f"s-{CARRIED}")
    after = run_of(requests=known)
    again = cm.SignalWorkflow("order-1", request_id="s-1", name="call")
    assert decide(after, again, STAMP) == ((), Accepted("s-1", "run-1", is_new=False))
    other = cm.SignalWorkflow("order-1", request_id="s-1", name="call", input=b"[1]")
    assert isinstance(refused := decide(after, other, STAMP).reply, Refused)
    assert refused.code == "bad_input"
    forgotten = cm.SignalWorkflow("order-1", request_id="s-0", name="call")
    assert decide(after, forgotten, STAMP).events


def test_long_request_ids_are_forgotten_sooner() -> None:
    signals = [ev.SignalReceived("call", b"[]", f"{number:0250}") for number in range(CARRIED)]
    known = carried(run_of(*signals).requests)
    assert sum(len(each.id) for each in known) <= CARRIED_BYTES < sum(len(each.id) for each in known) + 250
    assert known[-1].id == signals[-1].request_id
