"""A real `perdure engine` and `perdure worker` on Kafka, watched over HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from perdure.adapters.kafka.admin.admin import Topics
from perdure.client import Client
from tests.kafka.namespace import wait_until

APP = """
from perdure import activity, workflow

@activity.defn
async def greet(name: str) -> str:
    return f"Hello, {name}!"

@workflow.defn
async def greeting(name: str) -> str:
    return await greet(name)
"""


class WatchedThread:
    """A process of ours that serves its metrics."""

    def __init__(self, place: Path, *arguments: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.log = place / f"{arguments[0]}.log"
        with self.log.open("w") as out:
            command = [
                sys.executable,
                "-P",
                "-m",
                "perdure.cli",
                *arguments,
                "--metrics-port",
                str(self.port),
                "--log-format",
                "json",
            ]
            self.process = subprocess.Popen(command, cwd=place, stdout=out, stderr=out)

    def get(self, path: str) -> tuple[int, str]:
        """Status 0: nobody listens yet."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except urllib.error.URLError:
            assert self.process.poll() is None, self.log.read_text()
            return 0, "{}"

    def health(self, which: str) -> tuple[int, list[str]]:
        status, body = self.get(f"/health/{which}")
        said: dict[str, Any] = json.loads(body)
        return status, said.get("waiting_for", [])

    def until_ready(self) -> None:
        wait_until(
            lambda: self.health("ready")[0] == 200,
            60,
            lambda: f"{self.health('ready')} {self.log.read_text()}",
        )

    def metrics(self) -> dict[str, float]:
        samples: dict[str, float] = {}
        for family in text_string_to_metric_families(self.get("/metrics")[1]):
            for sample in family.samples:
                labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
                samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return samples


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Callable[..., WatchedThread]]:
    (tmp_path / "app.py").write_text(APP)
    started: list[WatchedThread] = []

    def start(*arguments: str) -> WatchedThread:
        started.append(WatchedThread(tmp_path, *arguments))
        return started[-1]

    yield start
    for each in started:
        each.process.terminate()
    for each in started:
        assert each.process.wait(30) == 0, each.log.read_text()


def test_an_engine_says_what_it_waits_for_until_it_serves(
    kafka: str, watched: Callable[..., WatchedThread]
) -> None:
    name = f"t{uuid.uuid4().hex[:8]}"
    where = ("--kafka", kafka, "--namespace", name)
    engine = watched("engine", "app.py", *where)
    waits = f"waiting for the broker: topic {name}.events, which does not exist (perdure topics apply)"
    wait_until(
        lambda: waits in str(engine.health("ready")[1]),
        30,
        lambda: f"{engine.health('ready')} {engine.log.read_text()}",
    )
    assert engine.health("live") == (200, [])
    assert engine.health("ready")[0] == 503

    topics = Topics(name, {"bootstrap.servers": kafka})
    topics.apply(topics.plan(partitions=2))
    engine.until_ready()
    worker = watched("worker", "app.py", *where)
    worker.until_ready()

    async def greet() -> object:
        async with Client.connect(f"kafka://{kafka}/{name}") as client:
            handle = await client.start_by_name("greeting-1", "greeting", ["Ada"])
            return await handle.result()

    assert asyncio.run(greet()) == "Hello, Ada!"
    seen = engine.metrics()
    assert seen["perdure_kafka_owned_partitions"] == 2
    assert seen["perdure_kafka_transactions_total"] >= 3
    assert seen["perdure_events_total{kind=WorkflowCompleted}"] == 1
    wait_until(lambda: engine.metrics().get("perdure_kafka_lag_records{partition=1}") == 0)
    assert seen["perdure_kafka_events_ahead_total"] == 0
    seen = worker.metrics()
    assert seen["perdure_attempts_total{kind=activity,outcome=completed}"] == 1
    assert "perdure_batches_total{outcome=committed}" not in seen
    assert worker.health("live") == (200, [])
