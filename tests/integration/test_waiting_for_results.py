"""A client that waits for a result learns what the run waits for: suspended, no engine, an activity
that fails, a signal."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perdure import activity, workflow
from perdure.client import SyncClient
from perdure.client import handle as handles
from perdure.embedded import Platform
from perdure.errors import NotClosed
from perdure.registry import Registry

WITHIN_S = 60.0


@activity.defn(retry=activity.Retry(first_interval="1 hour", maximum_interval="1 hour"))
async def broken() -> None:
    raise KeyError("missing")


@activity.defn
async def endless() -> None:
    import asyncio

    await asyncio.Event().wait()


@workflow.defn(name="Waits")
class Waits:
    def __init__(self) -> None:
        self.is_released = False

    @workflow.run
    async def run(self, how: str) -> str:
        match how:
            case "broken":
                await broken()
            case "endless":
                await endless()
            case "sleep":
                await workflow.sleep("1 day")
            case "suspended":
                open("/etc/hostname")  # noqa: PTH123, SIM115 - what suspends it
            case _:
                await workflow.wait_until(lambda: self.is_released)
        return how

    @workflow.signal
    def release(self) -> None:
        self.is_released = True


REGISTRY = Registry.of([Waits], [broken, endless])
SAYS = {
    "broken": r"it waits for activity broken, whose attempt 1 failed \(KeyError: .*missing.*\); the next "
    r"attempt "
    r"is at 20",
    "endless": r"it waits for .*activity endless",
    "sleep": "it waits for a timer, until 20",
    "suspended": "it is suspended: .*test_waiting_for_results.py",
    "signal": "it waits for a signal",
}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/app.db"


@pytest.fixture
def platform(url: str) -> Iterator[Platform]:
    with Platform(REGISTRY, url) as platform:
        yield platform


@pytest.fixture
def client(platform: Platform, url: str) -> Iterator[SyncClient]:
    with SyncClient.connect(url) as client:
        yield client


class Result:
    """`perdure workflow result`, in a process of its own."""

    def __init__(self, url: str, *arguments: str) -> None:
        self.errors: list[str] = []
        command = [sys.executable, "-P", "-m", "perdure.cli", "workflow", "result", *arguments, "--db", url]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._changed:
                self.errors.append(line)
                self._changed.notify_all()

    def wait_for(self, text: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: any(text in line for line in self.errors), WITHIN_S), (
                self.errors
            )

    def ended(self) -> tuple[int, str]:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            shown = output.read()
        code = self._process.wait(WITHIN_S)
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()
        return code, shown


def until(condition: Callable[[], bool]) -> None:
    wait = threading.Event()
    while not condition():
        wait.wait(0.01)


@pytest.mark.parametrize("how", SAYS)
def test_a_result_that_does_not_come_in_time_says_what_the_run_waits_for(
    how: str, client: SyncClient
) -> None:
    run = client.start(f"run-{how}", Waits.run, how)
    wanted = {"broken": "backing off", "endless": "waiting for a worker"}.get(how)
    if wanted:
        until(lambda: [each.doing for each in client.describe(run.id).activities] == [wanted])
    with pytest.raises(NotClosed, match=SAYS[how]) as caught:
        run.result(timeout="1s")
    assert isinstance(caught.value, TimeoutError)


def test_an_earlier_run_waits_for_nothing_whatever_the_current_one_does(client: SyncClient) -> None:
    first = client.start("runs", Waits.run, "signal")
    first.signal(Waits.release)
    assert first.result(timeout="1m") == "signal"
    current = client.start("runs", Waits.run, "signal")
    assert current.run_id != first.run_id
    assert current.waits_for() != ""
    assert first.waits_for() == ""


def test_a_run_that_has_ended_waits_for_nothing(client: SyncClient) -> None:
    run = client.start("run", Waits.run, "signal")
    run.signal(Waits.release)
    assert run.result(timeout="1m") == "signal"
    assert run.waits_for() == ""


def test_without_an_engine_it_says_so_and_the_run_is_not_lost(url: str) -> None:
    with Platform(REGISTRY, url), SyncClient.connect(url) as client:
        run = client.start("run", Waits.run, "signal")
    with SyncClient.connect(url) as client:
        run = client.get("run", Waits.run)
        with pytest.raises(NotClosed, match="no engine answers: no engine is running on the database"):
            run.result(timeout="1s")
        shown = Result(url, "run")
        shown.wait_for("no engine answers: no engine is running on the database")
        with Platform(REGISTRY, url):
            shown.wait_for("it waits for a signal")
            run.signal(Waits.release)
            assert shown.ended() == (0, '"signal"\n')


def test_an_unanswerable_request_gets_no_promise(url: str) -> None:
    with Platform(REGISTRY, url), SyncClient.connect(url) as client:
        client.start("run", Waits.run, "signal")
    shown = Result(url, "run", "--no-wait")
    assert shown.ended() == (1, "")
    assert len(shown.errors) == 1
    assert "no engine is running on the database" in shown.errors[0]
    assert "is kept" not in shown.errors[0]


def test_the_command_says_immediately_why_a_suspended_run_has_no_result(client: SyncClient, url: str) -> None:
    client.start("run", Waits.run, "suspended")
    shown = Result(url, "run", "--no-wait")
    code, output = shown.ended()
    assert (code, output) == (1, "")
    assert "it is suspended" in "".join(shown.errors)
    assert len(shown.errors) == 1, "one line, and no complaint of asyncio about what was given up"


def test_a_client_that_waits_for_long_logs_that_the_run_is_suspended(
    client: SyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(handles, "WARN_S", 0.0)
    caplog.set_level(logging.WARNING, "perdure.client")
    run = client.start("run", Waits.run, "suspended")
    until(lambda: run.waits_for().startswith("it is suspended"))
    with pytest.raises(NotClosed):
        run.result(timeout="1s")
    assert any(
        "the result of workflow run is awaited: it is suspended" in each.getMessage()
        for each in caplog.records
    )
