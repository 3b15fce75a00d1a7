"""Starts: the whole table of if_running, if_closed and the existing run."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.start import Outcome, decide_start, started_event
from perdure.core.state import RunState
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.failure import FailureInfo
from perdure.model.replies import Accepted, Refused
from tests.unit.core.driven import NOW, SECOND, Driven

START, ANSWER, REPLACE = Outcome.START, Outcome.ANSWER, Outcome.TERMINATE_AND_START
ENDS: dict[str, Any] = {
    "completed": ev.WorkflowCompleted(b"1"),
    "failed": ev.WorkflowFailed(FailureInfo("app:Sad")),
    "cancelled": ev.WorkflowCancelled(),
    "terminated": ev.WorkflowTerminated(),
    "timed_out": ev.WorkflowTimedOut(),
}


def there(how: str) -> RunState:
    run = Driven(**({"delayed_until": NOW + SECOND} if how == "delayed" else {}))
    if how in ENDS:
        run.record(ENDS[how])
    elif how == "suspended":
        run.record(ev.WorkflowSuspended("diverged"))
    return run.state


def start(type: str = "Order", request_id: str = "start-2", **fields: Any) -> cm.StartWorkflow:
    return cm.StartWorkflow("order-1", type=type, request_id=request_id, **fields)


def test_an_id_that_was_never_used_is_free() -> None:
    assert decide_start(None, start(if_running="refuse", if_closed="refuse")).outcome is START


@pytest.mark.parametrize("if_closed", ["start", "refuse", "after_failure"])
@pytest.mark.parametrize("how", ["running", "delayed", "suspended"])
@pytest.mark.parametrize(
    ("if_running", "outcome"), [("refuse", ANSWER), ("attach", ANSWER), ("terminate", REPLACE)]
)
def test_of_an_open_run_if_running_decides_alone(
    how: str, if_running: Any, if_closed: Any, outcome: Outcome
) -> None:
    decision = decide_start(there(how), start(if_running=if_running, if_closed=if_closed))
    assert decision.outcome is outcome
    if if_running == "refuse":
        assert isinstance(decision.reply, Refused)
        assert decision.reply.code == "already_started"
        assert decision.reply.run_id == "run-1"
    if if_running == "attach":
        assert decision.reply == Accepted("start-2", "run-1", is_new=False)


@pytest.mark.parametrize("if_running", ["refuse", "attach", "terminate"])
@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("if_closed", ["start", "refuse", "after_failure"])
def test_of_a_closed_run_if_closed_decides_alone(how: str, if_running: Any, if_closed: Any) -> None:
    may = if_closed == "start" or (if_closed == "after_failure" and how != "completed")
    decision = decide_start(there(how), start(if_running=if_running, if_closed=if_closed))
    assert decision.outcome is (START if may else ANSWER)
    if not may:
        assert isinstance(decision.reply, Refused)
        assert how in decision.reply.message
        assert if_closed in decision.reply.message


@pytest.mark.parametrize("how", ["running", "delayed", "suspended", *ENDS])
@pytest.mark.parametrize("if_running", ["refuse", "attach", "terminate"])
@pytest.mark.parametrize("if_closed", ["start", "refuse", "after_failure"])
def test_the_same_request_acts_once_whatever_the_options_say(
    how: str, if_running: Any, if_closed: Any
) -> None:
    again = start(request_id="start-1", if_running=if_running, if_closed=if_closed)
    decision = decide_start(there(how), again)
    assert decision.outcome is ANSWER
    assert decision.reply == Accepted("start-1", "run-1", is_new=False)


def test_a_start_of_another_type_does_not_attach() -> None:
    decision = decide_start(there("running"), start("Invoice", if_running="attach"))
    assert isinstance(decision.reply, Refused)
    assert "another type, 'Order'" in decision.reply.message


def test_starts_without_a_request_id_are_never_the_same() -> None:
    state = Driven(request_id="").state
    assert decide_start(state, start(request_id="", if_running="terminate")).outcome is REPLACE


def test_a_delay_is_from_now() -> None:
    assert started_event(start(delay_us=SECOND), NOW, 7, 311).delayed_until == NOW + SECOND
    assert started_event(start(), NOW, 7, 311).delayed_until == 0
