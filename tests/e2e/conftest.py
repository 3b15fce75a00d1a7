"""Real processes, started as a user starts them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from perdure.client import SyncClient
from tests.kafka.broker import any_kafka
from tests.kafka.distribution import KafkaUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0


def until(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """The condition's value as soon as it is truthy."""
    deadline = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {patience_s:.0f} s"
        time.sleep(0.02)
    return value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Kitchen:
    """`perdure dev examples/food_delivery/app.py`, which can be killed and started again where it
    was.

    On a file, or on the Kafka at `kafka`, not a line of the example changed.
    """

    directory: Path
    kafka: str = ""
    namespace: str = field(default_factory=lambda: f"food{uuid4().hex[:8]}")
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *, wait: str = "1 minute", failure_rate: float = 0.0) -> Kitchen:
        environment = {
            **os.environ,
            "FOOD_WAIT": wait,
            "FOOD_FAILURE_RATE": str(failure_rate),
            "FOOD_LEDGER": str(self.directory / "ledger"),
        }
        perdure = shutil.which("perdure", path=str(Path(sys.executable).parent))
        assert perdure, "perdure is not installed beside this Python"
        where = ["--db", f"sqlite:///{self.directory}/food.db"]
        if self.kafka:
            where = [
                "--kafka",
                self.kafka,
                "--namespace",
                self.namespace,
                "--state-dir",
                str(self.directory / "state"),
            ]
        command = [
            perdure,
            "dev",
            "examples/food_delivery/app.py",
            *where,
            "--port",
            str(self.port),
            "--no-reload",
        ]
        with (self.directory / "output").open("ab") as output:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
        until(self._is_ready, "the server is up")
        return self

    def kill(self) -> None:
        """As a power cut does: SIGKILL, with nothing said."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """As Ctrl-C does."""
        self._end(signal.SIGINT)

    def order(self, order_id: str, product: str) -> tuple[int, dict[str, Any]]:
        return self.ask("/orders", {"id": order_id, "product": product})

    def status(self, order_id: str) -> dict[str, Any]:
        return self.ask(f"/orders/{order_id}")[1]

    def until_state(self, order_id: str, state: str) -> dict[str, Any]:
        until(lambda: self.status(order_id).get("state") == state, f"order {order_id} is {state!r}")
        return self.status(order_id)

    def until_ended(self, order_id: str) -> None:
        """An order that has ended takes no more signals."""
        until(lambda: self.ask(f"/orders/{order_id}/picked-up", {})[0] == 404, f"order {order_id} has ended")

    def until_waiting(self, order_id: str) -> None:
        """A timer of its is recorded: asked as another process would ask."""
        address = (
            f"kafka://{self.kafka}/{self.namespace}" if self.kafka else f"sqlite:///{self.directory}/food.db"
        )
        with SyncClient.connect(address) as client:
            until(lambda: client.describe(order_id).timers, f"order {order_id} waits for a timer")

    def ledger(self, what: str) -> dict[str, list[str]]:
        """What the card company was asked to do: for each order the keys it was asked under, one
        for each attempt that arrived."""
        path, asked = self.directory / "ledger", dict[str, list[str]]()
        entries = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        for entry in entries:
            if entry["what"] == what:
                asked.setdefault(entry["order"], []).append(entry["key"])
        return asked

    def ask(self, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(self.url + path, data, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def output(self) -> str:
        return (self.directory / "output").read_text()

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the server did not start:\n{self.output()}"
        try:
            return self.ask("/menu")[0] == 200
        except OSError:
            return False

    def _end(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(20)
            self.process = None


@pytest.fixture(scope="session")
def kafka_of_kitchens() -> Iterator[str]:
    """A Kafka, one for all; skipped with the reason where there is none, as the tests of
    tests/kafka are."""
    with ExitStack() as stack:
        try:
            yield stack.enter_context(any_kafka()).bootstrap
        except KafkaUnavailable as reason:
            if os.environ.get("PERDURE_REQUIRE_KAFKA") == "1":
                raise
            pytest.skip(f"no Kafka: {reason}")


@pytest.fixture(params=["file", "kafka"])
def kitchen(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Kitchen]:
    """Not started yet; whatever runs at the end is killed."""
    made = Kitchen(tmp_path, request.getfixturevalue("kafka_of_kitchens") if request.param == "kafka" else "")
    yield made
    made.kill()
