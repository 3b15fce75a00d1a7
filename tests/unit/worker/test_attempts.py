"""One attempt: whose fault its end is, how long it may take, what it gets, and how it is
counted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from perdure import activity
from perdure.activity import Activity
from perdure.codec.payloads import JsonPayloads
from perdure.model import commands as cm
from perdure.model.tasks import Task
from perdure.worker.activity_threads import ActivityThreads
from perdure.worker.attempt import Attempts
from perdure.worker.stopping import stop
from perdure.worker.time_limits import Alarm


class Stage:
    """Events that the activities below wait for, and their notes; created for each test."""

    go_on: threading.Event
    ended: threading.Event
    was_told: bool


@activity.defn
async def own_timeout() -> None:
    raise TimeoutError("the bank took too long")


@activity.defn
async def own_cancellation() -> None:
    raise asyncio.CancelledError("the bank hung up")


@activity.defn
async def endless() -> None:
    await asyncio.Event().wait()


@activity.defn
async def quick() -> str:
    return "done"


@activity.defn
def in_a_thread() -> str:
    Stage.go_on.wait(20)
    return activity.info().activity


@activity.defn
def asks_whether_to_stop() -> None:
    Stage.go_on.wait(20)
    try:
        activity.heartbeat("half")
    except asyncio.CancelledError:
        Stage.was_told = True
    finally:
        Stage.ended.set()


@activity.defn
async def tells_what_it_heard() -> list[Any]:
    return [*activity.last_heartbeat(), activity.info().attempt, activity.idempotency_key()]


ALL: list[Activity[..., Any]] = [
    own_timeout,
    own_cancellation,
    endless,
    quick,
    in_a_thread,
    asks_whether_to_stop,
    tells_what_it_heard,
]


@pytest.fixture(autouse=True)
def _stage() -> None:
    Stage.go_on, Stage.ended, Stage.was_told = threading.Event(), threading.Event(), False


def attempts(threads: int = 1, alarm: Alarm | None = None) -> Attempts:
    return Attempts(
        {each.name: each for each in ALL}, JsonPayloads(), ActivityThreads(threads), instances={}, alarm=alarm
    )


def task(
    of: Activity[..., Any],
    number: int = 1,
    *,
    queue: str = "default",
    timeout_us: int = 60_000_000,
    details: bytes = b"",
) -> Task:
    return Task(
        "w", "run-1", number, 2, f"token-{number}", of.name, queue, b"[]", timeout_us, "key-1", 0, details
    )


def run(program: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    async def within_reason() -> Any:
        async with asyncio.timeout(20):
            return await program()

    return asyncio.run(within_reason())


def attempt(of: Attempts, what: Task, begin: Callable[[], None] = lambda: None) -> Coroutine[Any, Any, Any]:
    return of.run(what, lambda details: None, begin)


def failed(report: Any) -> cm.FailActivity:
    assert isinstance(report, cm.FailActivity)
    return report


def test_a_timeout_error_raised_by_user_code_is_an_ordinary_failure() -> None:
    report = failed(run(lambda: attempt(attempts(), task(own_timeout))))
    assert (report.timed_out, report.failure.message) == (False, "the bank took too long")


def test_a_cancelled_error_without_a_cancellation_is_a_failure() -> None:
    report = failed(run(lambda: attempt(attempts(), task(own_cancellation))))
    assert (report.timed_out, report.failure.message) == (False, "the bank hung up")


def test_an_attempt_knows_its_number_key_and_the_previous_details() -> None:
    report = run(lambda: attempt(attempts(), task(tells_what_it_heard, details=b'["half",7]')))
    assert report == cm.CompleteActivity(
        "w", "run-1", number=1, token="token-1", result=b'["half",7,2,"key-1"]'
    )


def test_the_time_of_a_sync_function_does_not_run_while_it_waits_for_a_thread() -> None:
    measured: list[float] = []
    called_off: list[float] = []

    def alarm(seconds: float, _: Callable[[], None]) -> Callable[[], None]:
        measured.append(seconds)
        return lambda: called_off.append(seconds)

    begun: list[int] = []

    async def program() -> list[Any]:
        ours = attempts(1, alarm)
        both = asyncio.gather(
            attempt(ours, task(in_a_thread, 1, timeout_us=1_000_000), lambda: begun.append(1)),
            attempt(ours, task(in_a_thread, 2, timeout_us=2_000_000), lambda: begun.append(2)),
        )
        while not ours.threads.waiting:
            await asyncio.sleep(0)
        assert (measured, begun) == ([1.0], [1])
        Stage.go_on.set()
        reports = await both
        ours.threads.close()
        return [*reports]

    assert [report.result for report in run(program)] == [b'"in_a_thread"'] * 2
    assert (measured, called_off, begun) == ([1.0, 2.0], [1.0, 2.0], [1, 2])


def test_the_next_heartbeat_of_a_cancelled_sync_attempt_raises() -> None:
    async def program() -> None:
        ours = attempts()
        begun = asyncio.Event()
        running = asyncio.create_task(attempt(ours, task(asks_whether_to_stop), begun.set))
        await begun.wait()
        stop(running, "the workflow no longer waits for it")
        await asyncio.wait([running])
        Stage.go_on.set()
        await asyncio.to_thread(Stage.ended.wait, 20)
        ours.threads.close()

    run(program)
    assert Stage.was_told


def test_attempts_are_counted_by_how_they_ended_steps_apart() -> None:
    ours = attempts()

    async def program() -> None:
        await attempt(ours, task(quick))
        await attempt(ours, task(quick, queue=""))
        await attempt(ours, task(own_timeout))
        await attempt(ours, task(endless, timeout_us=1))
        running = asyncio.create_task(attempt(ours, task(endless)))
        await asyncio.sleep(0)
        stop(running, "the workflow no longer waits for it")
        await asyncio.wait([running])

    run(program)
    assert ours.outcomes == {
        ("activity", "completed"): 1,
        ("step", "completed"): 1,
        ("activity", "failed"): 1,
        ("activity", "timed_out"): 1,
        ("activity", "cancelled"): 1,
    }
