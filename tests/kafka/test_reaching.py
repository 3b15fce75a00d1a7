"""A Kafka that cannot be reached: every process and client says so in one line, with its address
and the reason."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError

from perdure.adapters.kafka import reachability as reaching
from perdure.adapters.kafka.clients.plain import PlainClients
from perdure.adapters.kafka.clients.transactional import EngineClients
from perdure.adapters.kafka.reachability import Watch, cleaned, is_away, watched
from perdure.adapters.kafka.status import Stall
from tests.kafka.broker import free_ports
from tests.kafka.mock_cluster import MockCluster

APPS = Path(__file__).parent / "apps"
PATIENCE_S = 100


class Said:
    """What a watch has said."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._is_new = threading.Condition()

    def __call__(self, line: str) -> None:
        with self._is_new:
            self.lines.append(line)
            self._is_new.notify_all()

    def wait(self, count: int) -> list[str]:
        with self._is_new:
            assert self._is_new.wait_for(lambda: len(self.lines) >= count, PATIENCE_S), self.lines
            return list(self.lines)


@pytest.fixture
def nobody() -> str:
    """An address where nothing listens."""
    return f"127.0.0.1:{free_ports(1)[0]}"


@pytest.fixture
def mute() -> Iterator[str]:
    """Something that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def web() -> Iterator[str]:
    """Something that speaks HTTP."""
    server = socket.create_server(("127.0.0.1", 0))
    with server:

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("nobody", "Connection refused"),
        ("mute", "no answer within 1.5 s"),
        ("web", "the listener there is not Kafka, or it requires TLS"),
        ("no-such-host.invalid:9092", "check the host name"),
    ],
)
def test_the_line_has_the_address_and_the_reason(
    where: str, reason: str, request: pytest.FixtureRequest
) -> None:
    address = where if ":" in where else request.getfixturevalue(where)
    said = Said()
    Watch({"bootstrap.servers": address}, said).look()
    (line,) = said.wait(1)
    assert line.startswith(f"Kafka at {address} cannot be reached: ")
    assert reason in line


def test_an_outage_is_reported_again_while_it_lasts_and_once_when_it_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reaching, "RETRY_AFTER_S", 0.1)
    with MockCluster() as cluster:
        cluster.set_down()
        said = Said()
        watch = Watch({"bootstrap.servers": cluster.bootstrap}, said)
        for _ in range(10):
            watch.look()
        lines = said.wait(3)
        assert all("cannot be reached" in line for line in lines)
        assert watch.is_away
        cluster.set_up()
        wait_until(lambda: "responds again after" in said.lines[-1])
        wait_until(lambda: not watch.is_away)


def test_a_cluster_that_answers_causes_no_report() -> None:
    with MockCluster() as cluster:
        said = Said()
        watch = Watch({"bootstrap.servers": cluster.bootstrap}, said)
        watch.look()
        wait_until(lambda: watch._thread is None)
        assert not said.lines


def test_a_broker_that_fails_beside_others_that_answer_is_named() -> None:
    with MockCluster() as cluster:
        said = Said()
        Watch({"bootstrap.servers": cluster.bootstrap}, said).look(
            "Connect to ipv4#10.0.0.3:9092 failed: Connection refused"
        )
        (line,) = said.wait(1)
        assert "responds, but one of its brokers does not: Connect to ipv4#10.0.0.3:9092" in line


def test_clients_with_the_same_settings_share_a_watch_and_an_error_wakes_it(
    nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []

    def look(self: Watch, _failing: str = "") -> None:
        looks.append(self._where)

    monkeypatch.setattr(Watch, "look", look)
    told: list[str] = []
    first = watched({"bootstrap.servers": nobody, "fetch.min.bytes": 1}, told.append)
    watched({"bootstrap.servers": nobody, "schema.registry.url": "http://x"})
    assert len([each for each in reaching._watches.values() if each._where == nobody]) == 1
    first["error_cb"](KafkaError(KafkaError._TRANSPORT, "gone"))
    first["error_cb"](KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "no"))
    assert looks == [nobody] * 3
    assert told == ["_TRANSPORT: gone", "TOPIC_AUTHORIZATION_FAILED: no"]


def test_connection_lines_of_librdkafka_are_left_to_the_watch_of_the_cluster_others_are_rare(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[tuple[str, str]] = []

    def look(self: Watch, failing: str = "") -> None:
        looks.append((self._where, failing))

    monkeypatch.setattr(Watch, "look", look)
    logger, _other = (watched({"bootstrap.servers": each})["logger"] for each in ("of-lines:1", "another:1"))
    looks.clear()
    for _ in range(200):
        logger.log(
            logging.ERROR,
            "%s [%s] %s",
            "FAIL",
            "consumer-1",
            "[thrd:b:1/1]: b:1/1: Connect failed (after 0ms in state CONNECT)",
        )
        late = "application maximum poll interval exceeded"
        logger.log(logging.WARNING, "%s [%s] %s", "MAXPOLL", "consumer-1", late)
    assert [record.getMessage() for record in caplog.records] == [
        "MAXPOLL [consumer-1] application maximum poll interval exceeded"
    ]
    assert set(looks) == {("of-lines:1", "Connect failed")}


def test_a_line_of_librdkafka_loses_its_own_names_for_a_connection() -> None:
    text = (
        "[thrd:b:1/bootstrap]: b:1/bootstrap: Connect to ipv4#1.2.3.4:1 failed: Connection refused (after "
        "0ms in state CONNECT)"
    )
    assert cleaned(text) == "Connect to ipv4#1.2.3.4:1 failed: Connection refused"


def test_only_its_own_cluster_is_away_for_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(_self: Watch, _failing: str = "") -> None: ...

    monkeypatch.setattr(Watch, "look", look)
    here, there = ({"bootstrap.servers": f"away-{each}:1"} for each in ("here", "there"))
    watched(here)
    watched(there)
    next(each for each in reaching._watches.values() if each._where == "away-there:1").is_away = True
    assert (is_away(here), is_away({**here, "fetch.min.bytes": 2}), is_away(there)) == (False, False, True)
    engine, worker = EngineClients("n", "one", here), PlainClients("n", "one", there)
    assert (engine.is_away(), worker.is_away()) == (False, True)


def test_a_wait_for_an_unavailable_kafka_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def report(message: str, /, **_where: str | int) -> None:
        said.append(message)

    away = [True]
    stall = Stall(report, lambda: away[0])
    monkeypatch.setattr("perdure.adapters.kafka.status.REPORT_AFTER_S", 0.0)
    stall.waits("an answer")
    assert (stall.waiting_for, said) == ("an answer", [])
    away[0] = False
    stall.waits("topic a, which does not exist")
    assert len(said) == 1


COMMANDS = {
    "engine": "engine {shop} --kafka {nobody} --namespace n --state-dir {folder}/state --log-format json",
    "worker": "worker {shop} --kafka {nobody} --namespace n --queue q --log-format json",
    "dev": "dev {shop} --kafka {nobody} --namespace n --state-dir {folder}/dev --port 0 --api-port 0 "
    "--no-reload --log-format json",
    "ingest": "ingest {shop} --kafka {nobody} --namespace n --log-format json",
    "api": "api --kafka {nobody} --namespace n --insecure --port 0 --log-format json",
    "topics": "topics check --kafka {nobody} --namespace n",
    "dead letters": "dead-letters list --kafka {nobody} --namespace n",
    "client": "workflow show order-1 --db kafka://{nobody}/n",
    "publish": "publish orders 1 --kafka {nobody}",
}


def test_every_process_says_it_in_one_line_on_its_log(nobody: str, tmp_path: Path) -> None:
    processes: dict[str, subprocess.Popen[bytes]] = {}
    environment = {**os.environ, "SHOP": "shop"}
    try:
        for name, command in COMMANDS.items():
            arguments = command.format(shop=APPS / "shop.py", nobody=nobody, folder=tmp_path).split()
            with (tmp_path / name).open("wb") as output:
                processes[name] = subprocess.Popen(
                    [sys.executable, "-m", "perdure.cli", *arguments],
                    env=environment,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
        for name, process in processes.items():
            output_of = tmp_path / name
            wait_until(partial(of_kafka, output_of), output_of.read_text)
            (line,) = of_kafka(output_of)
            assert (
                f"Kafka at {nobody} cannot be reached: Connect to ipv4#{nobody} failed: Connection refused"
                in line
            )
            if "json" in COMMANDS[name]:
                json.loads(line)
            assert process.poll() is None or name not in {"engine", "worker", "dev", "ingest", "api"}
    finally:
        for process in processes.values():
            process.send_signal(signal.SIGKILL)
            process.wait()


def of_kafka(output: Path) -> list[str]:
    """The lines about the broker: ours, librdkafka's, and those of who waits."""
    return [
        line
        for line in output.read_text().splitlines()
        if "cannot be reached" in line or "FAIL" in line or "waiting for" in line
    ]


def wait_until(holds: Callable[[], object], otherwise: Callable[[], Any] = lambda: "") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.02)
