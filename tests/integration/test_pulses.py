"""Whichever thread of a platform is killed, its process is not live, says which, and ends."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from perdure import activity, threads, workflow
from perdure.adapters.sqlite.hints import Hints
from perdure.client import SyncClient
from perdure.embedded import Platform
from perdure.observability.health import is_live, is_ready
from perdure.observability.observed import Observed
from perdure.observability.server import ObservabilityServer
from perdure.registry import Registry
from perdure.threads import WatchedThread
from perdure.worker.side_loop import SideLoop
from tests.integration.test_cli import Dev, perdure

NAMES = (
    "perdure-activity",
    "perdure-client",
    "perdure-client-loop",
    "perdure-engine",
    "perdure-hints",
    "perdure-ingest",
    "perdure-metrics",
    "perdure-side",
    "perdure-side-watch",
    "perdure-watchdog",
)


@activity.defn
def on_a_thread() -> str:
    return threading.current_thread().name


@activity.defn(timeout="1m")
async def hold_the_loop(seconds: float) -> str:
    time.sleep(seconds)
    return "done"


@workflow.defn(name="threaded")
async def threaded() -> str:
    return await on_a_thread()


@workflow.defn(name="held")
async def held(seconds: float) -> str:
    return await hold_the_loop(seconds)


@workflow.defn
class Triggered:
    @workflow.trigger("orders", str, id=str)
    @workflow.run
    async def run(self, value: str) -> None: ...


REGISTRY = Registry.of([threaded, held, Triggered], [on_a_thread, hold_the_loop])


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # A traceback formatted in a dying thread while another one parses breaks ast.parse in Python
    # 3.11 (gh-106905).
    monkeypatch.setattr(logging.getLogger("perdure.process"), "propagate", False)
    threads.forget()
    yield
    threads.forget()


def until(condition: Callable[[], Any]) -> Any:
    while not (found := condition()):
        time.sleep(0.01)
    return found


def running() -> dict[str, threading.Thread]:
    """Our threads, by name; those of the pool that answers requests to `/metrics` are not, for any
    of them may answer."""
    return {
        each.name: each
        for each in threading.enumerate()
        if each.name.startswith("perdure-") and "_" not in each.name
    }


@pytest.fixture
def everything(tmp_path: Path) -> Iterator[Platform]:
    """A platform on a file with all that may run beside it, and a client of another process's
    kind."""
    with ExitStack() as stack:
        url = f"sqlite:///{tmp_path}/app.db"
        platform = stack.enter_context(Platform(REGISTRY, url))
        server = ObservabilityServer(
            Observed(platform.engine, platform.worker, platform.steps, attempts=platform.attempts)
        )
        server.start()
        stack.callback(server.stop)
        client = stack.enter_context(SyncClient.connect(url))
        assert client.execute("threaded", threaded) == "perdure-activity"
        yield platform


def die() -> None:
    raise SystemExit


def kill(thread: threading.Thread, platform: Platform) -> None:
    """Raise SystemExit in the thread at its next line, and see to it that there is one."""
    for each in gc.get_objects():
        if isinstance(each, SideLoop) and each._thread is thread:  # it survives SystemExit in what it runs
            each._run_a_while = die  # type: ignore[method-assign]
            each.loop.call_soon_threadsafe(each.loop.stop)
            thread.join()
            return
    assert thread.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
    while thread.is_alive():
        for waiting in gc.get_objects():  # in select()
            if isinstance(waiting, asyncio.BaseEventLoop) and not waiting.is_closed():
                with suppress(RuntimeError):
                    waiting.call_soon_threadsafe(int)
            elif isinstance(waiting, Hints):
                waiting.give(waiting.port)
        platform._wake()
        platform.attempts.threads._queue.put(int)  # type: ignore[arg-type]
        thread.join(0.05)


def test_every_thread_of_a_platform_is_watched_and_known_here(everything: Platform) -> None:
    found = running()
    assert all(isinstance(each, WatchedThread) for each in found.values()), "a thread without a pulse"
    assert set(found) == set(NAMES), "name a new thread here, and see that its death is noticed"


@pytest.mark.parametrize("name", NAMES)
def test_a_platform_that_has_lost_a_thread_is_not_live_and_can_still_be_stopped(
    name: str, everything: Platform
) -> None:
    observed = Observed(everything.engine, everything.worker)
    assert is_live(observed).is_well
    kill(running()[name], everything)
    until(threads.dead)
    reasons = is_live(observed).reasons
    assert any(f"thread {name} has died of SystemExit" in reason for reason in reasons)
    assert not is_ready(observed).is_well


def test_a_process_that_loses_a_thread_reports_it_and_ends(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import threading\n"
        "from perdure import activity, workflow\n"
        "from perdure.threads import WatchedThread\n"
        "@activity.defn\n"
        "def lose() -> None:\n"
        "    WatchedThread(target=exit, name='perdure-lost').start()\n"
        "@workflow.defn\n"
        "async def loses() -> None:\n"
        "    await lose()\n"
    )
    dev = Dev(tmp_path, "app.py", "--no-reload")
    dev.wait_for("serving")
    perdure(tmp_path, "workflow", "start", "a", "loses")
    assert dev.ended() == 1
    assert any("thread perdure-lost has died of SystemExit" in line for line in dev.lines)


def test_an_activity_that_blocks_the_loop_is_named_in_health_log_and_run(
    everything: Platform, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with SyncClient.connect(f"sqlite:///{tmp_path}/app.db") as client:
        run = client.start("held", held, 6.0)
        observed = Observed(everything.engine, everything.worker)
        where = f"{Path(__file__).name}:{hold_the_loop.fn.__code__.co_firstlineno + 2}"
        reason = until(lambda: [each for each in is_ready(observed).reasons if "is blocked" in each])[0]
        assert reason.startswith("perdure-side is blocked by activity hold_the_loop at ")
        assert where in reason
        (pending,) = until(
            lambda: [each for each in client.describe("held").activities if each.doing == "running"]
        )
        assert "is blocked by activity hold_the_loop" in pending.reason
        assert run.result() == "done"
        assert until(lambda: is_ready(observed).is_well)
    assert any("nothing else runs there" in each.getMessage() for each in caplog.records)
