"""What a worker says of attempts that run for long, wait, or are about to be another worker's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from perdure import activity
from perdure.activity import Activity, Info
from perdure.codec.payloads import JsonPayloads
from perdure.model import commands as cm
from perdure.model.tasks import Task, trouble_of_worker
from perdure.worker import heartbeats
from perdure.worker import worker as module
from perdure.worker.activity_threads import ActivityThreads
from perdure.worker.attempt import Attempts
from perdure.worker.steps import LocalSteps
from perdure.worker.worker import Worker


class Gate:
    opened: asyncio.Event
    thread: threading.Event
    stopped: list[int]


@activity.defn
async def hold(number: int) -> None:
    try:
        await Gate.opened.wait()
    except asyncio.CancelledError:
        Gate.stopped.append(number)
        raise


@activity.defn
def hold_a_thread(number: int) -> None:
    Gate.thread.wait(20)


ALL: dict[str, Activity[..., Any]] = {each.name: each for each in (hold, hold_a_thread)}


def task(number: int, of: Activity[..., Any] = hold) -> Task:
    return Task(
        "w",
        "run-1",
        number,
        1,
        f"token-{number}",
        of.name,
        "default",
        f"[{number}]".encode(),
        60_000_000,
        f"key-{number}",
        0,
    )


class Said:
    """The submitted commands."""

    def __init__(self) -> None:
        self.commands: list[Any] = []

    def __call__(self, commands: Sequence[cm.AnyCommand]) -> None:
        self.commands += commands

    def started(self) -> list[int]:
        return [each.number for each in self.commands if isinstance(each, cm.StartActivity)]


@pytest.fixture
def said() -> Said:
    return Said()


def worker_of(said: Said, *, concurrency: int = 10, threads: int = 1) -> Worker:
    return Worker(
        "worker-1", Attempts(ALL, JsonPayloads(), ActivityThreads(threads), instances={}), said, concurrency
    )


def run(program: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def within_reason() -> None:
        Gate.opened, Gate.thread, Gate.stopped = asyncio.Event(), threading.Event(), []
        try:
            async with asyncio.timeout(20):
                await program()
        finally:
            Gate.thread.set()

    asyncio.run(within_reason())


async def until(holds: Callable[[], object]) -> None:
    while not holds():
        await asyncio.sleep(0)


async def end(worker: Worker) -> None:
    Gate.opened.set()
    Gate.thread.set()
    await until(lambda: worker.is_idle)


def test_a_long_attempt_is_leased_also_after_a_time_in_which_nothing_ran(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeats, "STARTED_AFTER_S", 0.002)

    async def program() -> None:
        worker = worker_of(said)
        for count in (1, 2):
            Gate.opened.clear()
            worker.deliver([task(count)])
            while len(said.started()) < count:
                await asyncio.sleep(0)
            Gate.opened.set()
            await until(lambda: len(asyncio.all_tasks()) == 1)

    run(program)
    assert said.started() == [1, 2]


def test_the_attempt_that_holds_up_the_loop_is_leased_and_no_other(said: Said) -> None:
    async def program() -> None:
        worker = worker_of(said)
        worker.deliver([task(1), task(2)])
        await asyncio.sleep(0)
        for _ in range(2):
            worker.blocked(Info("w", "run-1", "hold", 1, "key-2"), "it computes (app.py:7)")
        worker.blocked(Info("w", "run-2", "hold", 1, "key-1"), "it computes (app.py:7)")
        await end(worker)

    run(program)
    assert said.started() == [2]
    assert trouble_of_worker(said.commands[0].worker) == "it computes (app.py:7)"


def test_tasks_of_a_partition_that_goes_are_dropped_unless_they_run_and_those_are_leased(said: Said) -> None:
    async def program() -> None:
        worker = worker_of(said, concurrency=4)
        worker.deliver([task(1), task(2), task(3, hold_a_thread), task(4, hold_a_thread), task(5)])
        await until(lambda: worker.waiting == 2)
        assert [each.number for each in worker.held] == [5, 1, 2, 3, 4]
        worker.blocked(Info("w", "run-1", "hold", 1, "key-2"), "it computes")
        assert sorted(worker.release([f"token-{number}" for number in range(1, 7)])) == ["token-4", "token-5"]
        assert said.started() == [2, 1, 3], "each once, also the one that was leased before"
        await until(lambda: worker.waiting == 0)
        await end(worker)

    run(program)
    assert sorted(each.number for each in said.commands if isinstance(each, cm.CompleteActivity)) == [1, 2, 3]


def test_how_long_the_oldest_task_has_waited(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])

    async def program() -> None:
        worker = worker_of(said, concurrency=1)
        assert worker.oldest_waiting_s == 0.0
        for number in (1, 2, 3):
            worker.deliver([task(number)])
            await asyncio.sleep(0)
            now[0] += 10.0
        assert (worker.waiting, worker.oldest_waiting_s, worker.since_last_begin_s) == (2, 20.0, 30.0)
        worker.cancel(["token-2"])
        assert (worker.waiting, worker.oldest_waiting_s) == (1, 10.0)
        await end(worker)
        assert worker.oldest_waiting_s == 0.0

    run(program)


def test_a_task_that_waits_for_a_thread_is_waiting(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])

    async def program() -> None:
        worker = worker_of(said)
        worker.deliver([task(1, hold_a_thread), task(2, hold_a_thread)])
        await until(lambda: worker.waiting == 1)
        now[0] += 7.0
        assert (worker.running, worker.oldest_waiting_s) == (2, 7.0)
        await end(worker)

    run(program)


def test_steps_that_run_are_cut_short_when_the_engine_stops(said: Said) -> None:
    async def program() -> None:
        attempts = Attempts(ALL, JsonPayloads(), ActivityThreads(1), instances={})
        steps = LocalSteps(asyncio.get_running_loop(), attempts, said)
        steps.start([task(1), task(2)])
        await until(lambda: steps.running == 2)
        await asyncio.sleep(0)
        await steps.cancel_all()
        assert steps.is_idle

    run(program)
    assert (Gate.stopped, said.commands) == ([1, 2], [])
