"""The machine of one message to another workflow."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.machines.message import Messages
from perdure.core.registry import ANSWERS
from perdure.core.run import waits_of
from perdure.model import addresses
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.replies import Accepted, AnyReply, Closed, Refused
from perdure.model.states import Status, Wait
from tests.unit.core.driven import BROKEN, NOW, Driven

SIGNAL = ev.MessageSent(1, "signal", "other", "go", b"[1]")


def answer(run: Driven, reply: AnyReply) -> list[Any]:
    command = ANSWERS["message"](addresses.Workflow("message", "order-1", "run-1", 1), reply)
    fields = {name: getattr(command, name) for name in command.__struct_fields__[1:]}
    return run.events(type(command), **fields)


@pytest.mark.parametrize(
    ("sent", "command"),
    [
        (SIGNAL, cm.SignalWorkflow("other", "", "run-1/message/1", name="go", input=b"[1]")),
        (
            ev.MessageSent(1, "cancel", "other", "rain"),
            cm.CancelWorkflow("other", "", "run-1/message/1", reason="rain"),
        ),
        (ev.MessageSent(1, "result", "other"), cm.AwaitWorkflow("other", "", "run-1/message/1")),
    ],
    ids=lambda each: getattr(each, "what", ""),
)
def test_a_message_is_a_command_whose_answer_comes_to_this_run(sent: Any, command: cm.Request) -> None:
    from msgspec.structs import replace

    run = Driven()
    run.record(sent)
    assert run.written.sent == [replace(command, reply_to="workflow:message/run-1/1/order-1")]


@pytest.mark.parametrize(
    ("reply", "event"),
    [
        (Accepted("", "run-2"), ev.MessageAnswered(1, "accepted")),
        (
            Refused("", "not_found", "nobody"),
            ev.MessageAnswered(1, "refused", code="not_found", message="nobody"),
        ),
        (Closed("", "run-2", Status.COMPLETED, b"42"), ev.MessageAnswered(1, "completed", b"42")),
        (Closed("", "run-2", Status.FAILED, failure=BROKEN), ev.MessageAnswered(1, "failed", failure=BROKEN)),
        (
            Closed("", "run-2", Status.CANCELLED, reason="rain"),
            ev.MessageAnswered(1, "cancelled", message="rain"),
        ),
    ],
    ids=lambda each: type(each).__name__,
)
def test_it_is_answered_once(reply: AnyReply, event: Any) -> None:
    run = Driven()
    run.record(SIGNAL)
    assert answer(run, reply) == [event]
    assert answer(run, reply) == []
    assert not run.state.part(Messages)


def test_the_answer_to_a_run_that_has_closed_is_dropped() -> None:
    run = Driven()
    run.record(SIGNAL)
    run.record(ev.WorkflowCompleted(b"1"))
    assert answer(run, Accepted("", "run-2")) == []


def test_a_message_that_is_not_answered_is_what_the_run_waits_for() -> None:
    run = Driven()
    run.record(SIGNAL)
    assert waits_of(run.state) == (Wait("message", "other", 1, 0, NOW),)
