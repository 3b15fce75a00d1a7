"""The machine of one token."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from perdure.core.machines.token import UNKNOWN, address_of
from perdure.core.run import fold, waits_of
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.failure import FailureInfo
from perdure.model.replies import Accepted, Refused
from perdure.model.states import Wait
from perdure.model.timers import Timer, TimerKind
from perdure.model.tokens import LONGEST, TokenAddress, parse
from tests.unit.core.driven import BROKEN, NOW, SECOND, Driven

SECRET = "0123456789abcdef" * 2
ISSUED = ev.TokenIssued(1, SECRET, NOW + 60 * SECOND)
PUBLIC = ev.TokenIssued(2, SECRET[::-1], 0, True)


def text(run: Driven, issued: ev.TokenIssued = ISSUED) -> str:
    return address_of(run.state, issued).text


def resolve(run: Driven, value: bytes = b"42", token: str = "", **fields: Any) -> Any:
    """The events and the answer of a resolution."""
    return run.ask(cm.ResolveToken, token=token or text(run), value=value, **fields)


def refusal(decision: Any) -> tuple[str, str]:
    assert not decision.events
    assert isinstance(decision.reply, Refused)
    return decision.reply.code, decision.reply.message


@pytest.fixture
def run() -> Driven:
    driven = Driven()
    driven.record(ISSUED)
    driven.record(PUBLIC)
    return driven


def test_it_is_resolved(run: Driven) -> None:
    decision = resolve(run, request_id="r-1")
    assert decision == ((ev.TokenResolved(1, b"42"),), Accepted("r-1", "run-1"))


def test_it_is_failed(run: Driven) -> None:
    assert run.events(cm.FailToken, token=text(run), failure=BROKEN) == [ev.TokenFailed(1, BROKEN)]


def test_an_equal_answer_is_accepted_again_and_leaves_no_event(run: Driven) -> None:
    resolve(run, b'{"a": 1, "b": [2]}')
    decision = resolve(run, b'{"b":[2],"a":1}', request_id="other")
    assert decision == ((), Accepted("other", "run-1", is_new=False))


def test_an_equal_failure_is_accepted_again(run: Driven) -> None:
    run.ask(cm.FailToken, token=text(run), failure=BROKEN)
    again = run.ask(cm.FailToken, token=text(run), failure=replace(BROKEN, traceback="elsewhere"))
    assert again == ((), Accepted("", "run-1", is_new=False))


@pytest.mark.parametrize("is_failed", [False, True])
def test_another_answer_is_refused(run: Driven, is_failed: bool) -> None:
    if is_failed:
        run.ask(cm.FailToken, token=text(run), failure=BROKEN)
    else:
        resolve(run, b"41")
    assert refusal(resolve(run, b"42"))[0] == "token_closed"
    other = run.ask(cm.FailToken, token=text(run), failure=FailureInfo("builtins:KeyError"))
    assert refusal(other)[0] == "token_closed"


def test_an_encrypted_value_is_taken_for_the_one_before(run: Driven) -> None:
    resolve(run, b"\0aes\0one")
    assert resolve(run, b"\0aes\0other").reply == Accepted("", "run-1", is_new=False)


def test_it_expires_once_and_not_early(run: Driven) -> None:
    assert run.written.timers == {Timer(ISSUED.expires_at, "run-1", TimerKind.TOKEN, 1, "order-1")}
    run.at = ISSUED.expires_at - 1
    assert run.events(cm.ExpireToken, number=1) == []
    run.at = ISSUED.expires_at
    assert run.events(cm.ExpireToken, number=1) == [ev.TokenExpired(1)]
    assert run.events(cm.ExpireToken, number=1) == []
    assert run.events(cm.ExpireToken, number=2) == []
    assert run.events(cm.ExpireToken, number=9) == []
    assert run.written.timers == set()


def test_an_answer_that_comes_with_the_end_of_its_time_is_too_late(run: Driven) -> None:
    run.at = ISSUED.expires_at
    code, message = refusal(resolve(run))
    assert code == "token_closed"
    assert "expired" in message
    run.ask(cm.ExpireToken, number=1)
    assert refusal(resolve(run))[0] == "token_closed"


def test_an_answer_ends_its_time(run: Driven) -> None:
    resolve(run)
    assert run.written.timers == set()
    run.at = ISSUED.expires_at
    assert run.events(cm.ExpireToken, number=1) == []


FORGED: dict[str, TokenAddress] = {
    "another secret": TokenAddress("order-1", "run-1", 1, "f" * 32),
    "no secret": TokenAddress("order-1", "run-1", 1, ""),
    "the secret of another token": TokenAddress("order-1", "run-1", 1, PUBLIC.secret),
    "another number": TokenAddress("order-1", "run-1", 2, SECRET, True),
    "a number that was not issued": TokenAddress("order-1", "run-1", 7, SECRET),
    "a negative number": TokenAddress("order-1", "run-1", -1, SECRET),
    "another run": TokenAddress("order-1", "run-0", 1, SECRET),
    "another workflow": TokenAddress("order-2", "run-1", 1, SECRET),
    "made public": TokenAddress("order-1", "run-1", 1, SECRET, True),
    "a secret that is not ASCII": TokenAddress("order-1", "run-1", 1, "é" * 16),
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
@pytest.mark.parametrize("is_closed", [False, True])
def test_a_forged_token_gets_no_information(run: Driven, forged: TokenAddress, is_closed: bool) -> None:
    if is_closed:
        run.record(ev.WorkflowCompleted(b"1"))
    decision = resolve(run, token=forged.text, request_id="r")
    assert decision.reply == Refused("r", "unknown_token", UNKNOWN)
    failed = run.ask(cm.FailToken, token=forged.text, failure=BROKEN)
    assert failed.reply == Refused("", "unknown_token", UNKNOWN)
    assert not decision.events + failed.events


@pytest.mark.parametrize(
    "garbage", ["token_", "token_!!!", "token_e30", "order-1", "\ud800", "é", "token_" + "A" * LONGEST]
)
def test_text_that_is_no_token_is_refused(run: Driven, garbage: str) -> None:
    assert parse(garbage) is None
    assert refusal(resolve(run, token=garbage))[0] == "unknown_token"


def test_only_one_text_is_that_of_a_token(run: Driven) -> None:
    given = text(run)
    assert parse(given) == TokenAddress("order-1", "run-1", 1, SECRET)
    for other in (given + "=", given + "A", given.upper(), given[:-1], f" {given}"):
        assert parse(other) is None


@pytest.mark.parametrize("workflow_id", ["a" * 255, '"' * 255, "é" * 127, "a/b?c#d"])
def test_every_workflow_id_makes_a_text_that_a_url_takes(workflow_id: str) -> None:
    address = TokenAddress(workflow_id, "run-1", 2**62, SECRET, True)
    assert parse(address.text) == address
    assert len(address.text) <= LONGEST
    assert all(each.isalnum() or each in "-_" for each in address.text)


def test_the_text_alone_answers_only_a_public_token(run: Driven) -> None:
    assert refusal(resolve(run, is_anonymous=True)) == ("unknown_token", UNKNOWN)
    assert resolve(run, b"1", text(run, PUBLIC), is_anonymous=True).events == (ev.TokenResolved(2, b"1"),)


def test_a_closed_run_takes_only_the_answer_that_it_had(run: Driven) -> None:
    resolve(run, b"42")
    run.record(ev.WorkflowCompleted(b"1"))
    assert run.written.timers == set()
    assert resolve(run, b"42").reply == Accepted("", "run-1", is_new=False)
    assert refusal(resolve(run, b"43"))[0] == "token_closed"
    code, message = refusal(resolve(run, b"1", text(run, PUBLIC)))
    assert code == "token_closed"
    assert "completed" in message


def test_the_time_of_a_token_ends_with_its_run(run: Driven) -> None:
    run.record(ev.WorkflowCompleted(b"1"))
    assert run.written.timers == set()
    run.at = ISSUED.expires_at
    assert run.events(cm.ExpireToken, number=1) == []


def test_a_suspended_run_takes_no_answer(run: Driven) -> None:
    run.record(ev.WorkflowSuspended("the code is gone"))
    assert refusal(resolve(run))[0] == "suspended"
    run.record(ev.WorkflowResumed())
    assert resolve(run).events


def test_a_token_of_a_suspended_run_expires(run: Driven) -> None:
    run.record(ev.WorkflowSuspended("the code is gone"))
    run.at = ISSUED.expires_at
    assert run.events(cm.ExpireToken, number=1) == [ev.TokenExpired(1)]


def test_open_tokens_are_what_the_run_waits_for_without_their_secrets(run: Driven) -> None:
    waits = waits_of(run.state)
    assert waits == (Wait("token", "", 1, 0, NOW, ISSUED.expires_at), Wait("token", "", 2, 0, NOW, 0))
    resolve(run)
    assert waits_of(run.state) == (Wait("token", "", 2, 0, NOW, 0),)


def test_tokens_are_known_again_when_the_run_is_folded(run: Driven) -> None:
    events: list[Any] = [
        ev.WorkflowStarted("Order", b"[]", 311, 7, request_id="start-1"),
        ISSUED,
        ev.TokenResolved(1, b"42"),
    ]
    again = Driven()
    again.state = fold([ev.EventRecord("order-1", "run-1", 1, NOW, -1, -1, b"", events)])
    assert resolve(again, b"42").reply == Accepted("", "run-1", is_new=False)
    assert refusal(resolve(again, b"43"))[0] == "token_closed"
