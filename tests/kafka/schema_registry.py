"""A real schema registry that speaks Confluent's API: Apicurio, from Maven Central, in memory, on
loopback; ends with its starter."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

from tests.kafka.broker import BOUND_TO_PARENT, QUICK, free_ports, spawned
from tests.kafka.distribution import KafkaUnavailable, cache, java, run_maven

VERSION: Final = "2.6.13.Final"
ARTIFACT: Final = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
API: Final = "/apis/ccompat/v7"
READY_S: Final = 60


class SchemaRegistry:
    """One process; what it knows is gone with it.

    Args:
        port: on loopback.
        folder: for its output.
    """

    def __init__(self, port: int, folder: Path) -> None:
        self._port = port
        self._output = folder / "registry-output"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{port}{API}"

    def start(self) -> None:
        """Returns when it answers."""
        listen = ("-Dquarkus.http.host=127.0.0.1", f"-Dquarkus.http.port={self._port}")
        command = [java(), "-Xmx384m", *QUICK, *listen, "-jar", str(_program())]
        with self._output.open("ab") as output:
            self._process = spawned(
                [sys.executable, "-c", BOUND_TO_PARENT, str(os.getpid()), *command], output
            )
        deadline = time.monotonic() + READY_S
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                self.ask("GET", "/subjects")
                return
            threading.Event().wait(0.05)
        raise KafkaUnavailable(
            f"the schema registry is not ready: {self._output.read_text(errors='replace')[-2000:]}"
        )

    def kill(self) -> None:
        """SIGKILL, and its end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """As another program does."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(
                method, API + path, data, {"Content-Type": "application/vnd.schemaregistry.v1+json"}
            )
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        assert response.status == 200, (path, response.status, answer)
        return answer


@contextlib.contextmanager
def running_registry() -> Generator[SchemaRegistry]:
    """Ready; killed at the end.

    Raises:
        KafkaUnavailable: there is no Java, or no Maven, or it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="perdure-registry-") as folder:
        registry = SchemaRegistry(free_ports(1)[0], Path(folder))
        try:
            registry.start()
            yield registry
        finally:
            registry.kill()


def _program() -> Path:
    folder = cache() / f"apicurio-{VERSION}"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            run_maven("dependency:copy", f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={scratch}")
            made = Path(scratch) / "registry"
            (archive,) = Path(scratch).glob("*.tar.gz")
            with tarfile.open(archive) as packed:
                packed.extractall(made, filter="data")
            with contextlib.suppress(OSError):  # another process was quicker
                made.rename(folder)
    (program,) = folder.glob("*-runner.jar")
    return program
