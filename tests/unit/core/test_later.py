"""An activity whose attempt waits for a result from outside."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.machines.token import UNKNOWN
from perdure.core.run import fold, waits_of
from perdure.core.state import ActivityStatus
from perdure.model import commands as cm
from perdure.model import events as ev
from perdure.model.failure import FailureInfo
from perdure.model.options import ActivityOptions, RetryPolicy
from perdure.model.replies import Accepted, Refused
from perdure.model.states import Wait
from perdure.model.timers import Timer, TimerKind
from perdure.model.tokens import of_attempt, parse
from tests.unit.core.driven import BROKEN, NOW, SECOND, Driven

ONCE = RetryPolicy(maximum_attempts=1)
EXPIRES = Timer(NOW + 60 * SECOND, "run-1", TimerKind.ANSWER, 1, "order-1")


@pytest.fixture
def run() -> Driven:
    driven = Driven()
    driven.schedule()
    return driven


def text(token: str = "first-1", *, is_public: bool = False) -> str:
    return of_attempt("order-1", "run-1", 1, token, is_public=is_public).text


def defer(run: Driven, token: str = "first-1", ran_us: int = 0) -> list[Any]:
    return run.events(cm.DeferActivity, number=1, token=token, ran_us=ran_us)


def resolve(run: Driven, value: bytes = b"42", token: str = "", **fields: Any) -> Any:
    return run.ask(cm.ResolveToken, token=token or text(), value=value, **fields)


def fail(run: Driven, failure: FailureInfo = BROKEN, token: str = "") -> Any:
    return run.ask(cm.FailToken, token=token or text(), failure=failure)


def refusal(decision: Any) -> tuple[str, str]:
    assert not decision.events
    assert isinstance(decision.reply, Refused)
    return decision.reply.code, decision.reply.message


def test_a_deferred_attempt_has_no_task_and_its_timeout(run: Driven) -> None:
    assert defer(run) == [ev.ActivityDeferred(1, 1, NOW + 60 * SECOND)]
    assert run.state.activities[1].status is ActivityStatus.DEFERRED
    assert not run.written.tasks
    assert run.written.timers == {EXPIRES}
    assert waits_of(run.state) == (Wait("answer", "charge", 1, 1, NOW, NOW + 60 * SECOND),)


def test_the_time_that_the_function_ran_is_part_of_the_timeout(run: Driven) -> None:
    assert defer(run, ran_us=50 * SECOND) == [ev.ActivityDeferred(1, 1, NOW + 10 * SECOND)]


def test_a_leased_attempt_is_deferred(run: Driven) -> None:
    run.events(cm.StartActivity, number=1, token="first-1", worker="worker-1")
    assert defer(run)
    assert run.events(cm.ExpireLease, number=1, token="first-1") == []


def test_an_answer_completes_it(run: Driven) -> None:
    defer(run)
    decision = resolve(run, request_id="r-1")
    assert decision == ((ev.ActivityCompleted(1, b"42"),), Accepted("r-1", "run-1"))
    assert not run.written.timers
    assert not run.state.activities


def test_an_answer_may_come_before_the_function_has_returned(run: Driven) -> None:
    deferred = ev.ActivityDeferred(1, 1, NOW + 60 * SECOND)
    assert resolve(run).events == (deferred, ev.ActivityCompleted(1, b"42"))
    assert not run.written.tasks
    assert defer(run) == []  # the report of the worker comes late, and says nothing new


def test_an_equal_answer_is_accepted_again_and_another_one_is_refused(run: Driven) -> None:
    defer(run)
    resolve(run, b'{"a": 1, "b": 2}')
    again = resolve(run, b'{"b":2,"a":1}')
    assert again == ((), Accepted("", "run-1", is_new=False))
    assert refusal(resolve(run, b"43"))[0] == "token_closed"


def test_a_final_failure_ends_it_and_another_one_is_retried(run: Driven) -> None:
    defer(run)
    (failed,) = fail(run).events
    assert isinstance(failed, ev.ActivityAttemptFailed)
    assert not [timer for timer in run.written.timers if timer.kind is TimerKind.ANSWER]
    assert fail(run) == ((), Accepted("", "run-1", is_new=False))
    assert refusal(resolve(run))[0] == "token_closed"
    run.at += SECOND
    run.events(cm.RetryActivity, number=1)
    assert run.written.tasks["run-1", 1].attempt == 2
    assert refusal(resolve(run)) == ("unknown_token", UNKNOWN)  # its attempt is over
    second = text(failed.token)
    final = FailureInfo("shop:Declined", "no", is_final=True)
    assert fail(run, final, second).events[-1] == ev.ActivityFailed(1, final, 2)


def test_without_an_answer_the_attempt_times_out(run: Driven) -> None:
    defer(run)
    run.at += 60 * SECOND - 1
    assert run.events(cm.ExpireAnswer, number=1) == []
    run.at += 1
    assert refusal(resolve(run))[0] == "token_closed"
    (failed,) = run.events(cm.ExpireAnswer, number=1)
    assert isinstance(failed, ev.ActivityAttemptFailed)
    assert "no answer within timeout=60s" in failed.failure.message
    assert run.events(cm.ExpireAnswer, number=1) == []


def test_the_last_attempt_ends_by_its_timeout() -> None:
    run = Driven()
    run.record(ev.ActivityScheduled(1, "charge", b"[]", ActivityOptions(retry=ONCE), "first-1"))
    defer(run)
    run.at += 60 * SECOND
    (failed,) = run.events(cm.ExpireAnswer, number=1)
    assert isinstance(failed, ev.ActivityFailed)
    assert failed.timed_out


def test_reports_of_the_same_attempt_that_come_late_change_nothing(run: Driven) -> None:
    defer(run)
    assert defer(run) == []
    assert run.events(cm.StartActivity, number=1, token="first-1", worker="worker-1") == []
    assert run.events(cm.DeclineActivity, number=1, token="first-1", reason="unknown") == []


def test_the_report_of_another_attempt_is_ignored(run: Driven) -> None:
    (ignored,) = defer(run, "forged")
    assert isinstance(ignored, ev.CommandIgnored)


def test_a_worker_that_got_the_task_twice_may_complete_it(run: Driven) -> None:
    defer(run)
    assert run.complete("first-1") == [ev.ActivityCompleted(1, b"42")]


def test_a_cancelled_one_waits_no_longer(run: Driven) -> None:
    defer(run)
    run.record(ev.ActivityCancelRequested(1))
    assert not run.written.timers
    assert not run.written.stopped
    assert refusal(resolve(run))[0] == "token_closed"


def test_the_end_of_the_run_ends_it(run: Driven) -> None:
    defer(run)
    run.record(ev.WorkflowCompleted(b"null"))
    assert not run.written.timers
    assert refusal(resolve(run))[0] == "token_closed"


@pytest.mark.parametrize("given", ["token_", "token_WyJhIl0", text("forged"), text() + "A"])
def test_a_wrong_token_text_is_unknown(run: Driven, given: str) -> None:
    defer(run)
    assert refusal(resolve(run, token=given)) == ("unknown_token", UNKNOWN)


def test_only_a_public_token_can_be_answered_without_a_key(run: Driven) -> None:
    defer(run)
    assert refusal(resolve(run, is_anonymous=True)) == ("unknown_token", UNKNOWN)
    said = parse(text())
    assert said is not None
    forged = type(said)(
        said.workflow_id, said.run_id, 1, said.secret, is_public=True, is_of_activity=True
    ).text
    assert refusal(resolve(run, token=forged, is_anonymous=True)) == ("unknown_token", UNKNOWN)
    assert resolve(run, token=text(is_public=True), is_anonymous=True).events


def test_a_suspended_run_takes_no_answer(run: Driven) -> None:
    defer(run)
    run.record(ev.WorkflowSuspended("bad code"))
    assert refusal(resolve(run))[0] == "suspended"


def test_the_state_is_folded_from_events(run: Driven) -> None:
    started = run.state.started
    events: list[ev.AnyEvent] = [
        started,
        ev.ActivityScheduled(1, "charge", b"[]", ActivityOptions(), "first-1"),
        ev.ActivityDeferred(1, 1, NOW + 60 * SECOND),
        ev.ActivityCompleted(1, b"42"),
    ]
    folded = fold([ev.EventRecord("order-1", "run-1", 1, NOW, -1, -1, b"", events)])
    assert folded.later is not None
    run.state = folded
    assert resolve(run) == ((), Accepted("", "run-1", is_new=False))
