"""A thread that dies is noticed; a loop that stands still is, too, with the activity that holds it;
sync activities begin with a thread."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perdure import threads
from perdure.errors import InfrastructureError
from perdure.observability.health import is_live, is_ready
from perdure.observability.observed import Observed
from perdure.threads import WatchedThread
from perdure.worker.activity_threads import ActivityThreads
from perdure.worker.loop_watch import BLOCKED_S
from perdure.worker.side_loop import SideLoop

ROOTS = [Path(__file__).parents[2] / each for each in ("platform", "api", "workers")]


UNWATCHED = (
    # its pool answers requests, any thread any of them; the thread that accepts them is watched
    ("observability", "server.py"),
    # one request waits for it for a while; it may hang in an author's collector
    ("observability", "own_metrics.py"),
)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # A traceback formatted in a dying thread while another one parses breaks ast.parse in Python
    # 3.11 (gh-106905).
    monkeypatch.setattr(logging.getLogger("perdure.process"), "propagate", False)
    threads.forget()
    yield
    threads.forget()


def until(condition: Callable[[], object]) -> None:
    while not condition():
        time.sleep(0.01)


def test_every_thread_of_the_product_is_watched() -> None:
    made = re.compile(r"\bThread\(|\bTimer\(|ThreadPoolExecutor\(|start_new_thread\(")
    found = [
        f"{path.name}:{number}"
        for root in ROOTS
        for path in root.rglob("*.py")
        if path.name != "threads.py" and path.parts[-2:] not in UNWATCHED
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if made.search(line) and "threading" in path.read_text() and not line.lstrip().startswith(("#", '"'))
    ]
    assert found == [], "use perdure.threads.WatchedThread: then health knows when it is gone"


def test_a_thread_that_returns_has_ended_and_one_that_raises_has_died() -> None:
    heard: list[str] = []
    threads.listen(heard.append)
    ended = WatchedThread(target=int, name="perdure-ended")
    dies = WatchedThread(target=exit, name="perdure-dies")
    for each in (ended, dies):
        each.start()
        each.join()
    assert heard == threads.dead()
    assert heard == ["thread perdure-dies has died of SystemExit: None"]
    assert is_live(Observed()).reasons == tuple(heard)
    assert not is_ready(Observed()).is_well


def test_a_task_that_raises_has_died_and_one_that_is_cancelled_has_not() -> None:
    async def fail() -> None:
        raise OSError("no disk")

    async def main() -> None:
        cancelled, failed = asyncio.create_task(asyncio.sleep(60)), asyncio.create_task(fail())
        threads.watch_task(cancelled, "cancelled")
        threads.watch_task(failed, "feed")
        cancelled.cancel()
        await asyncio.gather(cancelled, failed, return_exceptions=True)

    asyncio.run(main())
    assert threads.dead() == ["task feed has died of OSError: no disk"]


def test_the_loop_of_activities_survives_a_stop_and_an_exit_and_its_death_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    side = SideLoop("perdure-side")
    side.start()

    async def stop() -> None:
        asyncio.get_running_loop().stop()

    async def leave() -> None:
        raise SystemExit

    async def answer() -> int:
        return 42

    side.call(stop())
    assert side.call(answer()) == 42
    with pytest.raises(SystemExit):
        side.call(leave())
    assert side.call(answer()) == 42, "only a signal ends a process"

    def broken() -> None:
        monkeypatch.undo()
        raise OSError("no selector")

    monkeypatch.setattr(side.loop, "run_forever", broken)
    side.call(stop())
    until(threads.dead)
    assert "perdure-side" in is_live(Observed()).reasons[0]
    with pytest.raises(InfrastructureError, match="has ended"):
        side.call(answer())
    side.stop()


def test_a_blocked_loop_is_not_ready_and_names_what_blocks_it() -> None:
    side = SideLoop("perdure-side")
    side.start()
    released = threading.Event()
    side.loop.call_soon_threadsafe(released.wait)
    until(lambda: any(each.trouble for each in threads.pulses()))
    (pulse,) = threads.pulses()
    assert pulse.silent_s >= BLOCKED_S
    (reason,) = is_ready(Observed()).reasons
    assert reason.startswith("perdure-side is blocked by")
    assert f"{Path(__file__).name}" not in reason, "no line of an author holds it"
    released.set()
    until(lambda: not pulse.trouble)
    assert is_ready(Observed()).is_well
    side.stop()
    assert threads.pulses() == []


def test_a_function_begins_with_its_thread() -> None:
    begun: list[int] = []
    released = threading.Event()

    async def main() -> None:
        pool = ActivityThreads(2)
        runs = [
            asyncio.create_task(
                pool.run(lambda n=number: (released.wait(), n)[1], lambda n=number: begun.append(n))  # type: ignore[misc]
            )
            for number in range(5)
        ]
        await asyncio.sleep(0)
        assert sum(begun) == 1
        assert len(begun) == 2
        assert (pool.busy, pool.waiting) == (2, 3)
        runs[2].cancel()
        await asyncio.gather(runs[2], return_exceptions=True)
        runs[0].cancel()  # its function continues, and keeps its thread
        await asyncio.gather(runs[0], return_exceptions=True)
        assert (pool.busy, pool.waiting) == (2, 2)
        released.set()
        assert [await runs[number] for number in (1, 3, 4)] == [1, 3, 4]
        assert begun == [0, 1, 3, 4]
        while pool.busy:
            await asyncio.sleep(0)
        pool.close()

    asyncio.run(main())


def test_what_a_function_raises_is_raised_whatever_it_is() -> None:
    async def main() -> None:
        pool = ActivityThreads(1)
        for raised, seen in (
            (KeyError("x"), KeyError),
            (SystemExit(3), SystemExit),
            (StopIteration(), RuntimeError),
        ):

            def fail(error: BaseException = raised) -> None:
                raise error

            with pytest.raises(seen):
                await pool.run(fail, lambda: None)
        assert await pool.run(lambda: 42, lambda: None) == 42
        pool.close()

    asyncio.run(main())
    assert threads.dead() == []
