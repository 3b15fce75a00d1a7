"""`executor="process"`: activities that compute, in child processes that may be killed."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from perdure import activity
from perdure.client import Client
from perdure.embedded import Platform
from perdure.errors import UsageError, WorkflowFailed
from perdure.registry import Registry
from tests.integration import processes as app

REGISTRY = Registry.of(
    [app.adds, app.dies, app.fails, app.beats, app.times_out, app.is_silent, app.stops, app.waits, app.asks],
    [app.add, app.refuse, app.die_once, app.spin, app.beat, app.silent, app.later, app.asks_for],
)


def unheard(message: str, /, **where: str | int) -> None: ...


def on_a_platform(scenario: Callable[[Client], Awaitable[Any]]) -> Any:
    async def body(platform: Platform) -> Any:
        async with platform.client() as client, asyncio.timeout(60):
            return await scenario(client)

    with Platform(REGISTRY, "memory://", report=unheard) as platform:
        return asyncio.run(body(platform))


async def pid_in(file: Path) -> int:
    while not file.exists() or not file.read_text():
        await asyncio.sleep(0.01)
    return int(file.read_text())


def is_running(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def test_values_cross_and_processes_are_used_again() -> None:
    async def scenario(client: Client) -> list[app.Sum]:
        return await client.execute("w", app.adds, 20)

    sums = on_a_platform(scenario)
    assert [each.total for each in sums] == [11 + number for number in range(20)]
    used = {each.process for each in sums}
    assert os.getpid() not in used
    assert len(used) <= (os.cpu_count() or 1)
    assert not any(map(is_running, used))  # the platform has stopped


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_a_child_that_dies_is_a_failed_attempt_and_the_worker_goes_on(how: str, tmp_path: Path) -> None:
    async def scenario(client: Client) -> Any:
        result = await client.execute("w", app.dies, str(tmp_path), how)
        history = await client.history("w")
        return result, str(history), (await client.execute("v", app.adds, 1))[0].total

    attempt, history, total = on_a_platform(scenario)
    assert (attempt, total) == (2, 11)
    said = "ended with exit code 7" if how == "exit" else "was killed by signal 9"
    assert f"the process of die_once {said}" in history


def test_a_failure_and_heartbeats_cross() -> None:
    async def scenario(client: Client) -> Any:
        return await client.execute("f", app.fails), await client.execute("b", app.beats)

    assert on_a_platform(scenario) == (5, [2, "rows"])


def test_a_timeout_kills_the_child(tmp_path: Path) -> None:
    async def scenario(client: Client) -> Any:
        said = await client.execute("w", app.times_out, str(tmp_path))
        file = tmp_path / "spins"
        # on a busy machine the time is over before the function begins
        pid = file.read_text() if file.exists() else ""
        while pid and is_running(int(pid)):
            await asyncio.sleep(0.01)
        return said

    assert on_a_platform(scenario) == "timed out"


def test_silence_kills_the_child(tmp_path: Path) -> None:
    async def scenario(client: Client) -> Any:
        return await client.execute("w", app.is_silent, str(tmp_path))

    assert "no heartbeat within heartbeat_timeout=0.3s" in on_a_platform(scenario)


def test_a_cancellation_kills_the_child(tmp_path: Path) -> None:
    async def scenario(client: Client) -> Any:
        run = await client.start("w", app.stops, str(tmp_path))
        pid = await pid_in(tmp_path / "spins")
        assert is_running(pid)
        await run.cancel()
        return await run.result(), pid

    said, pid = on_a_platform(scenario)
    assert said == "stopped"
    assert not is_running(pid)


def test_a_result_may_come_later(tmp_path: Path) -> None:
    async def scenario(client: Client) -> Any:
        run = await client.start("w", app.waits, str(tmp_path))
        token = tmp_path / "token"
        while not token.exists() or not token.read_text():
            await asyncio.sleep(0.01)
        await client.resolve(token.read_text(), "from outside")
        return await run.result()

    assert on_a_platform(scenario) == "from outside"


@pytest.mark.parametrize(
    ("what", "message"),
    [("client", r"SyncClient\.connect\(url\)"), ("stream", "no connection in a process of its own")],
)
def test_what_needs_the_worker_is_refused_with_advice(what: str, message: str) -> None:
    async def scenario(client: Client) -> str:
        run = await client.start("w", app.asks, what)
        while (reason := (await client.describe("w")).reason) == "":
            await asyncio.sleep(0.01)
        await run.terminate()
        with suppress(WorkflowFailed):
            await run.result()
        return reason

    assert re.search(message, on_a_platform(scenario))


MAIN = """
import asyncio, sys
from pathlib import Path
from perdure import activity, workflow
from perdure.embedded import Platform
from perdure.registry import Registry

@activity.defn(executor="process")
def spin(file: str) -> None:
    import os
    Path(file).write_text(str(os.getpid()))
    while True:
        pass

@workflow.defn
async def spins(file: str) -> None:
    await spin(file)

async def main(platform: Platform) -> None:
    async with platform.client() as client:
        await client.execute("w", spins, sys.argv[1])

if __name__ == "__main__":
    with Platform(Registry.of([spins], [spin]), "memory://") as platform:
        asyncio.run(main(platform))
"""


def test_a_child_of_a_killed_worker_ends_also_if_the_code_is_a_program(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(MAIN)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "program.py"), str(tmp_path / "pid")])
    try:

        async def child_begins_and_ends() -> None:
            async with asyncio.timeout(60):
                child = await pid_in(tmp_path / "pid")
                assert child != parent.pid
                parent.kill()
                while is_running(child):
                    await asyncio.sleep(0.01)

        asyncio.run(child_begins_and_ends())
    finally:
        parent.kill()
        parent.wait()


class Computes:
    def sums(self) -> None: ...


async def waits() -> None: ...


def nested() -> None: ...


@pytest.mark.parametrize(
    ("fn", "executor", "message"),
    [
        (waits, "process", "is for plain functions that compute"),
        (Computes.sums, "process", "is for functions: the instance of a method"),
        (lambda: None, "process", "defined inside a function"),
        (nested, "fork", 'must be "thread" or "process"'),
    ],
)
def test_what_cannot_run_in_a_process_is_refused_with_its_line(fn: Any, executor: Any, message: str) -> None:
    with pytest.raises(UsageError, match=rf"test_activity_processes\.py:\d+: activity\.defn: .*{message}"):
        activity.defn(name="x", executor=executor)(fn)


def test_outside_a_workflow_the_function_is_called_here() -> None:
    assert asyncio.run(app.add([app.Task(1)])).process == os.getpid()
