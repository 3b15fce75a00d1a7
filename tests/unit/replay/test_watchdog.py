"""Blocking code is reported and interrupted, and the engine continues."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Final

import pytest

from perdure.replay import eviction
from perdure.replay.calls import evaluate
from perdure.replay.watchdog import Blocked, Watchdog

if TYPE_CHECKING:
    from tests.unit.replay.conftest import Driven

LIMIT_S: Final = 0.1
Program = Callable[[], Coroutine[Any, Any, Any]]


async def compute_for_ever() -> None:
    while True:
        pass


async def swallow() -> str:
    for _ in range(2):
        try:
            while True:
                pass
        except BaseException:
            continue
    return "survived"


async def compute_in_a_library() -> None:
    sum(1 for _ in iter(int, 1))


async def wait_in_c() -> None:
    threading.Event().wait(60)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def watchdog(told: list[str]) -> Iterator[Watchdog]:
    watchdog = Watchdog(LIMIT_S, told.append)
    yield watchdog
    watchdog.stop()


def activation(watchdog: Watchdog, driven: Driven, program: Program) -> Any:
    watchdog.enter(driven.loop.run_id)
    try:
        return driven.begin(program)
    finally:
        watchdog.leave()


@pytest.mark.parametrize("program", [compute_for_ever, swallow, wait_in_c, compute_in_a_library])
def test_blocking_code_is_interrupted_and_the_users_line_named(
    watchdog: Watchdog, told: list[str], new_run: Callable[..., Driven], program: Program
) -> None:
    blocking, other = new_run("blocking"), new_run("other")
    with pytest.raises(Blocked, match=r"run blocking blocked the engine for more than 0\.1 s") as caught:
        activation(watchdog, blocking, program)
    file, _, line = caught.value.where.rpartition(":")
    assert file == __file__
    first = program.__code__.co_firstlineno
    assert first < int(line) < first + 8
    assert told == [str(caught.value)]
    assert gc.isenabled()
    assert asyncio._get_running_loop() is None
    eviction.evict(blocking.loop)
    assert activation(watchdog, other, lambda: asyncio.sleep(0, "went on")).result() == "went on"


@pytest.mark.parametrize("program", [compute_for_ever, swallow])
def test_it_works_in_a_thread_that_is_not_the_main_one(
    new_run: Callable[..., Driven], program: Program
) -> None:
    results: list[Any] = []

    def engine() -> None:
        watchdog = Watchdog(LIMIT_S)
        for each in (program, lambda: asyncio.sleep(0, "went on")):
            try:
                results.append(activation(watchdog, new_run(), each).result())
            except BaseException as error:
                results.append(error)
        watchdog.stop()

    thread = threading.Thread(target=engine)
    thread.start()
    thread.join(30)
    assert [type(result) for result in results] == [Blocked, str]
    assert results[0].where.startswith(__file__)


AFTERWARDS: Final = """
import sys, threading
from perdure.replay.watchdog import Blocked, Watchdog

def fire():
    watchdog = Watchdog(60.0)
    watchdog.enter("run-1")
    watchdog._fired_in = watchdog._activation  # it fires, and nothing arrives before the end
    try:
        watchdog.leave()
    except Blocked:
        print("blocked")
    watchdog.stop()

if sys.argv[1] == "main":
    fire()
else:
    thread = threading.Thread(target=fire)
    thread.start()
    thread.join()
sys.setprofile(lambda *_: None)
(lambda: None)()
print("profiled")
"""


@pytest.mark.parametrize("thread", ["main", "another"])
def test_a_profiler_works_after_an_interruption(thread: str) -> None:
    """CPython 3.11 and 3.12 hang in the first traced call while they believe that an asynchronous
    exception is on its way.
    """
    command = [sys.executable, "-c", AFTERWARDS, thread]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["blocked", "profiled"], done.stderr


def test_a_query_that_blocks_is_interrupted(watchdog: Watchdog, driven: Driven) -> None:
    def query() -> None:
        while True:
            pass

    watchdog.enter("run")
    try:
        with pytest.raises(Blocked):
            evaluate(driven.loop, query)
    finally:
        with pytest.raises(Blocked):
            watchdog.leave()
    assert not driven.loop.is_read_only


def test_the_engine_itself_is_never_interrupted(watchdog: Watchdog, told: list[str]) -> None:
    finished = threading.Event()
    threading.Timer(LIMIT_S * 4, finished.set).start()
    watchdog.enter("run")
    assert finished.wait(10)
    watchdog.leave()
    assert told == []


def test_many_short_activations_are_not_one_long_one(
    watchdog: Watchdog, told: list[str], driven: Driven
) -> None:
    until = time.monotonic() + 3 * LIMIT_S
    while time.monotonic() < until:
        watchdog.enter("run")
        driven.loop.run()
        watchdog.leave()
    assert told == []


def test_an_activation_costs_little(watchdog: Watchdog) -> None:
    def cost(times: int = 20_000) -> float:
        start = time.thread_time()
        for _ in range(times):
            watchdog.enter("run")
            watchdog.leave()
        return (time.thread_time() - start) / times

    if sys.gettrace() is None:
        assert (
            min(cost() for _ in range(5)) < 1e-6
        )  # 0.1 us when measured alone; a tool that traces or a busy machine multiplies it


@pytest.mark.parametrize("limit_s", [0.5, 2.0, 60.0])
def test_an_activation_has_the_whole_limit(limit_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    asked: list[float] = []

    class Ticks(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout or 0.0)
            return len(waited) > 100

    def interrupt(_watchdog: Watchdog, _current: list[str]) -> bool:
        asked.append(sum(waited))
        return True

    watchdog = Watchdog(limit_s)
    watchdog.stop()
    monkeypatch.setattr(Watchdog, "_interrupt", interrupt)
    watchdog._stopped = Ticks()
    watchdog.enter("run-1")
    watchdog._watch()
    assert limit_s <= asked[0] - waited[0] <= 1.2 * limit_s
    assert limit_s / 4 <= asked[1] - asked[0] <= limit_s, "and once more, should the code swallow it"


@pytest.mark.skipif(not hasattr(signal, "SIGUSR2"), reason="needs SIGUSR2")
def test_who_stops_gives_the_signal_back() -> None:
    def own(number: int, frame: object) -> None:
        """Nothing."""

    before = signal.signal(signal.SIGUSR2, own)
    try:
        watchdog = Watchdog(60.0)
        assert signal.getsignal(signal.SIGUSR2) is not own
        watchdog.stop()
        assert signal.getsignal(signal.SIGUSR2) is own
    finally:
        signal.signal(signal.SIGUSR2, before)
