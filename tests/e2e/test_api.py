"""The HTTP API as it is served: in `perdure dev`, and in `perdure api` beside it; streams over a
restart, and a stop that says so."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import free_port, until

APP = Path(__file__).parent / "apps" / "parcels.py"


class Process:
    """A command of ours, stopped at the end of the test."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        perdure = shutil.which("perdure", path=str(Path(sys.executable).parent))
        assert perdure, "perdure is not installed beside this Python"
        self.log = folder / f"{arguments[0]}-{free_port()}"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen([perdure, *arguments], cwd=folder, stdout=output, stderr=output)
        self.port = int(until(self._address, f"{arguments[0]} serves")[1])

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def status(self, method: str, path: str) -> int:
        """The response at any path."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with closing(connection):
            connection.request(method, path)
            return connection.getresponse().status

    def _address(self) -> re.Match[str] | None:
        assert self.process.poll() is None, self.log.read_text()
        return re.search(r"http://127\.0\.0\.1:(\d+)/api/v1", self.log.read_text())

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request(method, f"/api/v1{path}", None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()


class Stream:
    """Server-sent events, read in a thread until the server ends them."""

    def __init__(self, port: int, path: str, last: str = "") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._connection.request("GET", f"/api/v1{path}", headers={"Last-Event-ID": last} if last else {})
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200, self._answer.read()
        assert self._answer.headers["content-type"].startswith("text/event-stream")
        self.last = last
        self.events: list[tuple[str, Any]] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def places(self) -> list[str]:
        return [data["view"] for kind, data in self.events if kind == "state"]

    def ended(self) -> list[tuple[str, Any]]:
        self._thread.join(20)
        assert not self._thread.is_alive(), "the server did not end it"
        self._connection.close()
        return self.events

    def _read(self) -> None:
        fields: dict[str, str] = {}
        for line in self._answer:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = value
                continue
            self.last = fields.get("id", self.last)
            if "event" in fields:
                self.events.append((fields["event"], json.loads(fields["data"])))
            fields = {}


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    processes: list[Process] = []

    def start(*arguments: str) -> Process:
        processes.append(Process(tmp_path, *arguments))
        return processes[-1]

    yield start
    for each in processes:
        each.process.kill()
        each.process.wait()


def dev(started: Callable[..., Process], port: int = 0) -> Process:
    return started("dev", str(APP), "--db", "app.db", "--no-reload", "--api-port", str(port))


def test_a_watch_survives_a_restart_and_reports_a_stop(started: Callable[..., Process]) -> None:
    api = dev(started)
    assert api.ask("POST", "/workflows", {"type": "Parcel", "id": "p/1"})[0] == 201
    one, every = (
        Stream(api.port, "/workflows/p%2F1/events"),
        Stream(api.port, "/workflows/events?status=running"),
    )
    until(lambda: one.places() == ["shop"], "the state is told")
    assert api.ask("POST", "/workflows/p%2F1/signals/move", {"args": ["van"]})[0] == 202
    until(lambda: one.places()[-1:] == every.places()[-1:] == ["van"], "the change is told")
    results: list[int] = []
    waiting = threading.Thread(
        target=lambda: results.append(api.ask("GET", "/workflows/p%2F1/result?timeout=60s")[0])
    )
    waiting.start()
    assert api.stop() == 0
    assert one.ended()[-1] == every.ended()[-1] == ("bye", {}), "streams are told before they end"
    waiting.join(20)
    assert results == [204], "and who waits for a result asks again"

    again = dev(started, api.port)
    assert again.ask("POST", "/workflows/p%2F1/signals/move", {"args": ["road"]})[0] == 202
    one = Stream(again.port, "/workflows/p%2F1/events", one.last)
    every = Stream(again.port, "/workflows/events?status=running", every.last)
    until(
        lambda: one.places()[-1:] == every.places()[-1:] == ["road"],
        "what has changed meanwhile is told first",
    )
    assert again.ask("POST", "/workflows/p%2F1/signals/sign", {})[0] == 202
    assert again.ask("GET", "/workflows/p%2F1/result?timeout=20s")[1]["result"] == "road"
    until(lambda: one.events[-1][1].get("status") == "completed", "the end is told")
    until(lambda: every.events[-1] == ("left", {"id": "p/1"}), "it is running no longer")
    assert again.stop() == 0
    one.ended()
    every.ended()
    assert "Traceback" not in api.log.read_text() + again.log.read_text()


def test_each_address_that_is_printed_answers_and_one_is_the_page_for_people(
    started: Callable[..., Process],
) -> None:
    for process in (dev(started), started("api", str(APP), "--db", "app.db", "--insecure", "--port", "0")):
        (line,) = [each for each in process.log.read_text().splitlines() if "/api/v1" in each]
        paths = re.findall(rf"http://127\.0\.0\.1:{process.port}(/[\w/.]+)", line)
        assert {"/api/v1", "/docs", "/openapi.json"} == {*paths}
        for path in paths:
            for method in ("GET", "HEAD"):
                assert process.status(method, path) == 200, (method, path)


def test_an_api_of_its_own_beside_the_file(started: Callable[..., Process]) -> None:
    served = dev(started)
    api = started("api", str(APP), "--db", "app.db", "--insecure", "--port", "0")
    stream = Stream(api.port, "/workflows/events?type=Parcel")
    assert api.ask("POST", "/workflows", {"type": "Parcel", "id": "p-1", "args": [7]})[0] == 422, (
        "the app says what it takes"
    )
    assert api.ask("POST", "/workflows", {"type": "Parcel", "id": "p-1"})[0] == 201
    assert served.ask("POST", "/workflows/p-1/signals/move", {"args": ["van"]})[0] == 202, (
        "of the other process"
    )
    until(lambda: stream.places()[-1:] == ["van"], "what the other process does is told")
    assert served.stop() == 0
    assert api.ask("GET", "/workflows/p-1/view")[1] == "van", "it can be read while nobody runs it"
    assert api.stop() == 0
    assert stream.ended()[-1] == ("bye", {})
