"""Attempts that may not run twice: claimed before they begin, and looked up when they were
interrupted."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace

from perdure import activity
from perdure.activity import Activity
from perdure.codec.payloads import JsonPayloads
from perdure.errors import NotDone, OutcomeUnknown, UsageError
from perdure.model import commands as cm
from perdure.model.tasks import Task, claim_text
from perdure.worker.activity_threads import ActivityThreads
from perdure.worker.attempt import Attempts
from perdure.worker.worker import Worker
from tests.unit.worker.test_worker import Reports, idle, on_a_loop, turns

RAN: Counter[str] = Counter()


@activity.defn(at_most_once=True)
async def blind(number: int) -> int:
    RAN["blind"] += 1
    return number


def looked_up(number: int) -> int:
    RAN["looked up"] += 1
    if number == 1:
        raise NotDone
    if number == 2:
        raise ConnectionError("the bank is down")
    if number == 3:
        raise OutcomeUnknown("even the bank does not know")
    return 100 + number


@activity.defn(at_most_once=True, reconcile=looked_up)
def seen(number: int) -> int:
    RAN["seen"] += 1
    return number


@activity.defn(at_most_once=True, timeout="10ms", reconcile=looked_up)
async def slow(number: int) -> int:
    await asyncio.Event().wait()
    return number


@activity.defn(at_most_once=True)
async def odd(number: int) -> int:
    return object()  # type: ignore[return-value]


class Till:
    def __init__(self, at: int) -> None:
        self.at = at

    def look(self, number: int) -> int:
        return self.at + number

    @activity.defn(at_most_once=True, reconcile=look)
    async def pay(self, number: int) -> int:
        return number


ACTIVITIES: dict[str, Activity[..., Any]] = {each.name: each for each in (blind, seen, slow, odd, Till.pay)}


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    RAN.clear()


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
def worker(reports: Reports) -> Worker:
    attempts = Attempts(ACTIVITIES, JsonPayloads(), ActivityThreads(2), instances={Till: Till(1_000)})
    return Worker("worker-1", attempts, reports, concurrency=10)


def task(name: str, number: int = 7, *, is_unknown: bool = False) -> Task:
    return Task(
        "w", "run-1", 1, 1, "token-1", name, "default", f"[{number}]".encode(),
        ACTIVITIES[name].defaults.timeout_us, "key", 0, is_at_most_once=True, is_unknown=is_unknown,
    )  # fmt: skip


def result(reports: Reports) -> Any:
    """What the one report after the claim says."""
    claim, report = reports.all
    assert isinstance(claim, cm.StartActivity)
    return report


async def claimed(worker: Worker, of: Task) -> None:
    worker.deliver([of])
    await turns()
    worker.cancel([claim_text(of.token, worker.claims.claimant)])
    await idle(worker)


@on_a_loop
async def test_nothing_runs_before_the_claim_is_answered(worker: Worker, reports: Reports) -> None:
    worker.deliver([task("blind")])
    await turns(20)
    assert not RAN
    (claim,) = reports.all
    assert claim == cm.StartActivity("w", "run-1", number=1, token="token-1", worker=worker.claims.claimant)
    worker.cancel([claim_text("token-1", worker.claims.claimant)])
    await idle(worker)
    assert result(reports) == cm.CompleteActivity("w", "run-1", number=1, token="token-1", result=b"7")
    assert RAN == {"blind": 1}


@on_a_loop
async def test_an_attempt_of_another_worker_is_left_alone(worker: Worker, reports: Reports) -> None:
    worker.deliver([task("blind")])
    await turns()
    worker.cancel([claim_text("token-1", "worker-1 of yesterday")])
    await idle(worker)
    assert len(reports.all) == 1
    assert not RAN


@on_a_loop
async def test_a_claim_may_be_cancelled(worker: Worker, reports: Reports) -> None:
    worker.deliver([task("blind")])
    await turns()
    worker.cancel(["token-1"])
    await idle(worker)
    worker.cancel([claim_text("token-1", worker.claims.claimant)])
    await turns()
    assert not RAN


def test_two_workers_of_one_name_are_two_claimants(reports: Reports) -> None:
    attempts = Attempts(ACTIVITIES, JsonPayloads(), ActivityThreads(2), instances={})
    first, second = (Worker("worker-1", attempts, reports) for _ in range(2))
    assert first.claims.claimant != second.claims.claimant


@on_a_loop
async def test_an_interrupted_one_without_reconcile_is_unknown_for_good(
    worker: Worker, reports: Reports
) -> None:
    await claimed(worker, task("blind", is_unknown=True))
    failure = result(reports).failure
    assert (failure.type, failure.is_final) == ("perdure.errors:OutcomeUnknown", True)
    assert "activity 'blind': it was interrupted" in failure.message
    assert not RAN


@pytest.mark.parametrize(
    ("number", "ran", "wanted"),
    [
        (1, {"looked up": 1, "seen": 1}, b"1"),
        (2, {"looked up": 1}, False),
        (3, {"looked up": 1}, True),
        (7, {"looked up": 1}, b"107"),
    ],
)
@on_a_loop
async def test_reconcile_gives_the_outcome_of_an_interrupted_one(
    worker: Worker, reports: Reports, number: int, ran: dict[str, int], wanted: bytes | bool
) -> None:
    await claimed(worker, task("seen", number, is_unknown=True))
    report = result(reports)
    assert ran == RAN
    if isinstance(wanted, bytes):
        assert report.result == wanted
    else:
        assert (report.failure.type, report.failure.is_final) == ("perdure.errors:OutcomeUnknown", wanted)


@on_a_loop
async def test_reconcile_is_not_asked_before_anything_was_interrupted(
    worker: Worker, reports: Reports
) -> None:
    await claimed(worker, task("seen", 7))
    assert RAN == {"seen": 1}
    assert result(reports).result == b"7"


@on_a_loop
async def test_a_timeout_leaves_it_unknown(worker: Worker, reports: Reports) -> None:
    await claimed(worker, task("slow"))
    failure = result(reports).failure
    assert (failure.type, failure.is_final) == ("perdure.errors:OutcomeUnknown", False)
    assert "it may have taken effect" in failure.message


@on_a_loop
async def test_a_result_that_cannot_be_recorded_leaves_it_unknown(worker: Worker, reports: Reports) -> None:
    await claimed(worker, task("odd"))
    assert result(reports).failure.type == "perdure.errors:OutcomeUnknown"


@on_a_loop
async def test_arguments_that_do_not_fit_are_known_not_to_have_run(worker: Worker, reports: Reports) -> None:
    await claimed(worker, replace(task("blind"), input=b'["seven"]'))
    assert result(reports).failure.type == "perdure.errors:PayloadError"


@on_a_loop
async def test_reconcile_of_a_method_gets_the_instance(worker: Worker, reports: Reports) -> None:
    await claimed(worker, task("Till.pay", is_unknown=True))
    assert result(reports).result == b"1007"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"reconcile": looked_up}, "needs at_most_once=True"),
        ({"at_most_once": True, "reconcile": 5}, "reconcile must be a function"),
        ({"at_most_once": "yes"}, "at_most_once must be True or False"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        activity.defn(**options)(looked_up)


def test_it_is_not_retried_without_retry_options() -> None:
    assert blind.defaults.retry.maximum_attempts == 1
    retried = activity.defn(at_most_once=True, retry=activity.Retry(maximum_attempts=3))(slow.fn)
    assert retried.defaults.retry.maximum_attempts == 3
    assert retried.defaults.at_most_once
