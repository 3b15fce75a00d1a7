"""A real `perdure dev`, watched as operators watch it: over HTTP and by its log."""

from __future__ import annotations

import json
import socket
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from perdure.observability.observed import Observed
from perdure.observability.server import ObservabilityServer
from tests.integration.test_cli import Dev, ask, perdure

APP = """
import logging
from datetime import timedelta
from perdure import activity, workflow
log = logging.getLogger("shop")

@activity.defn(retry=activity.Retry(first_interval="10ms"))
async def charge(order_id: str) -> str:
    log.info("charging", extra={"cents": 995})
    if activity.info().attempt == 1:
        raise ConnectionError("the bank is away")
    return "paid"

@activity.step
async def price() -> int:
    return 995

@workflow.defn
async def order(order_id: str) -> str:
    log.info("order taken")
    await price()
    await workflow.sleep("10ms")
    return await charge(order_id)

@workflow.defn
async def sleeper(seconds: float) -> None:
    await workflow.sleep(timedelta(seconds=seconds))

@workflow.defn
async def spinning() -> None:
    while True:
        pass
"""
WITHIN_S = 20.0


class WatchedThread:
    """A `perdure dev` whose metrics are served."""

    def __init__(self, place: Path, *arguments: str) -> None:
        self.place = place
        self.dev = Dev(place, "app.py", "--no-reload", "--metrics-port", "0", *arguments)
        shown = self.dev.wait_for("metrics ")
        self.url = next(
            word for word in shown.replace(",", " ").split() if word.endswith("/metrics")
        ).removesuffix("/metrics")

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=WITHIN_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def health(self, which: str) -> tuple[int, list[str]]:
        status, body = self.get(f"/health/{which}")
        said: dict[str, Any] = json.loads(body)
        assert said["status"] == ("ok" if status == 200 else "unavailable")
        return status, said["waiting_for"]

    def metrics(self) -> dict[str, float]:
        status, text = self.get("/metrics")
        assert status == 200
        samples: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            assert family.documentation or not family.name.startswith("perdure")
            for sample in family.samples:
                labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
                samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return samples

    def lines(self) -> list[dict[str, Any]]:
        """Of the log, as JSON."""
        return [json.loads(line) for line in list(self.dev.lines) if line.startswith("{")]


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Callable[..., WatchedThread]]:
    (tmp_path / "app.py").write_text(APP)
    started: list[WatchedThread] = []

    def start(*arguments: str) -> WatchedThread:
        started.append(WatchedThread(tmp_path, *arguments))
        return started[-1]

    yield start
    for each in started:
        if each.dev.process.poll() is None:
            each.dev.process.kill()
        each.dev.ended()


def until(look: Callable[[], Any]) -> Any:
    """The output, as soon as there is any."""
    limit = monotonic() + WITHIN_S
    while not (seen := look()):
        assert monotonic() < limit
    return seen


def test_what_an_order_did_is_counted(watched: Callable[..., WatchedThread]) -> None:
    one = watched()
    ask(one.place, "start", "order-1", "order", "order-1")
    assert ask(one.place, "result", "order-1") == '"paid"\n'
    seen = one.metrics()
    assert seen["perdure_live"] == seen["perdure_ready"] == 1
    assert seen["perdure_commands_total{kind=StartWorkflow}"] == 1
    assert seen["perdure_commands_total{kind=FireTimer}"] == 1
    assert seen["perdure_events_total{kind=ActivityAttemptFailed}"] == 1
    assert seen["perdure_events_total{kind=WorkflowCompleted}"] == 1
    assert seen["perdure_attempts_total{kind=activity,outcome=failed}"] == 1
    assert seen["perdure_attempts_total{kind=activity,outcome=completed}"] == 1
    assert seen["perdure_attempts_total{kind=step,outcome=completed}"] == 1
    assert seen["perdure_attempts_running{kind=activity}"] == 0
    assert seen["perdure_timer_lateness_seconds_count"] == 2  # of the sleep, and of the retry
    assert seen["perdure_transaction_seconds_count"] == seen["perdure_batches_total{outcome=committed}"] >= 4
    assert seen["perdure_batch_seconds_sum"] >= seen["perdure_transaction_seconds_sum"] > 0
    assert seen["perdure_workflows{status=completed,type=order}"] == 1
    assert seen["perdure_dead_letters_open"] == 0
    assert seen["process_resident_memory_bytes"] > 0
    assert one.get("/nothing")[0] == 404


def test_while_the_database_is_locked_it_is_alive_not_ready_and_says_why(
    watched: Callable[..., WatchedThread],
) -> None:
    one = watched("--log-format", "json")
    assert one.health("ready") == (200, [])
    ask(one.place, "start", "sleeper-1", "sleeper", "1.5")
    with sqlite3.connect(one.place / "perdure.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")  # a shell that was left open
        (first,) = until(lambda: one.health("ready")[1])
        assert first.startswith("a batch is being committed, for ")
        locked = until(
            lambda: [each for each in one.health("ready")[1] if "is locked by another process" in each]
        )
        assert one.health("ready")[0] == 503
        assert one.health("live") == (200, [])
        assert one.metrics()["perdure_ready"] == 0
        other.execute("ROLLBACK")
    other.close()
    assert locked[0].endswith("no data lost, retrying")
    until(lambda: one.health("ready")[0] == 200)
    ask(one.place, "result", "sleeper-1")
    seen = one.metrics()
    assert seen["perdure_batches_total{outcome=aborted}"] >= 1
    assert (
        seen["perdure_timer_lateness_seconds_bucket{le=1.0}"] < seen["perdure_timer_lateness_seconds_count"]
    )
    told = [line for line in one.lines() if "is locked by another process" in line["event"]]
    assert told
    assert {(line["logger"], line["level"]) for line in told} == {("perdure.engine", "warning")}


def test_a_line_says_which_run_and_attempt_wrote_it(watched: Callable[..., WatchedThread]) -> None:
    one = watched("--log-format", "json")
    ask(one.place, "start", "order-1", "order", "order-1")
    ask(one.place, "result", "order-1")
    lines = one.lines()
    (taken,) = [line for line in lines if line["event"] == "order taken"]
    assert (taken["workflow_id"], taken["workflow_type"], taken["logger"]) == ("order-1", "order", "shop")
    charged = [line for line in lines if line["event"] == "charging"]
    assert [(line["activity"], line["attempt"], line["cents"]) for line in charged] == [
        ("charge", 1, 995),
        ("charge", 2, 995),
    ]
    assert {line["run_id"] for line in [taken, *charged]} == {taken["run_id"]}
    assert all(line["timestamp"].endswith("Z") for line in lines)


def test_a_suspension_is_reported_with_the_runs_id(watched: Callable[..., WatchedThread]) -> None:
    one = watched("--log-format", "json")
    ask(one.place, "start", "spin-1", "spinning")
    (told,) = until(lambda: [line for line in one.lines() if "suspended (no data lost)" in line["event"]])
    assert told["workflow_id"] == "spin-1"
    assert told["run_id"]
    assert one.metrics()["perdure_workflows{status=suspended,type=spinning}"] == 1


def test_a_port_that_is_taken_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = perdure(tmp_path, "dev", "app.py", "--metrics-port", str(port))
    assert done.returncode == 1
    assert (
        f"cannot listen at 127.0.0.1:{port}: Address already in use; choose another with --metrics-port"
        in done.stderr
    )


def test_metrics_are_not_served_unless_asked_for(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    dev = Dev(tmp_path, "app.py", "--no-reload")
    dev.wait_for("database ")
    assert dev.stop() == 0
    assert not [line for line in dev.lines if "metrics" in line]


def test_a_restart_finds_its_port_free_though_connections_of_before_linger() -> None:
    first = ObservabilityServer(Observed())
    first.start()
    port = int(first.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while client.recv(4096):
            pass  # the server is the first to close, so that its side lingers
    first.stop()
    again = ObservabilityServer(Observed(), port=port)
    again.stop()
