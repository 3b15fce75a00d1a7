"""A real PostgreSQL for tests and for people: one that can be stopped, killed and started again.

The first of these that there is: the server that `PERDURE_TEST_POSTGRES` names; a container
(testcontainers, where Docker answers); a process of this machine, from Debian's package or from
whatever `initdb` the path leads to. Processes listen on loopback only and end with the process that
started them.

    python -m tests.postgres.server [--port 5432]     until Ctrl-C
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import psycopg

from tests.kafka.broker import free_ports, spawned
from tests.servers import Source, source

DEBIAN: Final = Path("/usr/lib/postgresql")
IMAGE: Final = "postgres:17-alpine"
READY_S: Final = 30.0
QUICK: Final[Mapping[str, str]] = MappingProxyType({"fsync": "off", "full_page_writes": "off"})
"""Survives the death of the server, not that of the machine."""
DURABLE: Final[Mapping[str, str]] = MappingProxyType({"shared_buffers": "512MB", "max_wal_size": "4GB"})
"""As in production, for benchmarks."""


class PostgresUnavailable(Exception):
    """There is no server to be had on this machine; the message says why."""


class Server:
    """One server.

    Args:
        dsn: how to connect as its superuser.
        folder: of the data and the output; None for a server that was there, which cannot be
            stopped.
        command: starts it.
    """

    def __init__(self, dsn: str, folder: Path | None = None, command: tuple[str, ...] = ()) -> None:
        self.dsn = dsn
        self._folder = folder
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_ours(self) -> bool:
        """Whether it can be stopped and started."""
        return self._folder is not None

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            PostgresUnavailable: it does not; the message has the end of its output.
        """
        assert self._folder is not None
        assert self._process is None
        with (self._folder / "output").open("ab") as output:
            self._process = spawned(list(self._command), output)
        deadline = time.monotonic() + READY_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (self._folder / "output").read_text(errors="replace")[-2000:]
                raise PostgresUnavailable(f"PostgreSQL is not ready: {said}")
            threading.Event().wait(0.05)

    def stop(self) -> None:
        """End its sessions and the server, as an administrator does."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL; recovery follows with the next start."""
        self._end(signal.SIGKILL)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.dsn, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        group = os.getpgid(process.pid)
        process.send_signal(number)
        process.wait(READY_S)
        deadline = time.monotonic() + READY_S
        # sessions notice the death of their server a moment later
        while _is_alive(group) and time.monotonic() < deadline:
            threading.Event().wait(0.01)


@contextlib.contextmanager
def running(settings: Mapping[str, str] = QUICK, *, port: int = 0) -> Generator[Server]:
    """A server of this machine, ready; killed at the end, nothing is kept.

    Args:
        settings: of the server.
        port: on loopback; 0: any that is free.

    Raises:
        PostgresUnavailable: there is none, or it does not start.
    """
    programs = _programs()
    with tempfile.TemporaryDirectory(prefix="perdure-postgres-") as name:
        folder, data = Path(name), Path(name) / "data"
        as_owner = _as_owner(folder)
        made = subprocess.run(
            [
                *as_owner,
                programs / "initdb",
                "-D",
                data,
                "-U",
                "perdure",
                "--auth=trust",
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise PostgresUnavailable(f"initdb: {made.stderr.strip()}")
        port = port or free_ports(1)[0]
        wanted = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(folder),
            "logging_collector": "off",
            "log_min_messages": "warning",
            **settings,
        }
        options = [part for key, value in wanted.items() for part in ("-c", f"{key}={value}")]
        server = Server(
            f"postgresql://perdure@127.0.0.1:{port}/postgres",
            folder,
            (*as_owner, str(programs / "postgres"), "-D", str(data), *options),
        )
        try:
            server.start()
            yield server
        finally:
            server.kill()


@contextlib.contextmanager
def any_postgres() -> Generator[Server]:
    """A server, wherever it comes from.

    Raises:
        PostgresUnavailable: there is none; the message says why.
    """
    match source("PERDURE_TEST_POSTGRES"):
        case Source.NAMED:
            yield Server(os.environ["PERDURE_TEST_POSTGRES"])
        case Source.CONTAINER:
            containers: Any = importlib.import_module("testcontainers.community.postgres")
            with containers.PostgresContainer(IMAGE, driver=None) as container:
                yield Server(container.get_connection_url())
        case Source.PROCESS:
            with running() as server:
                yield server


def _programs() -> Path:
    """The folder of `initdb` and `postgres`."""
    for folder in sorted(DEBIAN.glob("*/bin"), key=lambda each: int(each.parent.name), reverse=True):
        if (folder / "initdb").exists():
            return folder
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    raise PostgresUnavailable(
        "there is no PostgreSQL: apt-get install postgresql, or name a server in PERDURE_TEST_POSTGRES"
    )


def _as_owner(folder: Path) -> tuple[str, ...]:
    """What a command begins with, so that it ends with us, and does not run as root, which the
    server refuses."""
    if sys.platform != "linux" or shutil.which("setpriv") is None:
        return ()
    bound = ("setpriv", "--pdeathsig", "KILL")
    if os.getuid():
        return bound
    owner = next(each for each in (_user("postgres"), _user("nobody")) if each is not None)
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    return (*bound, f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups", "--")


def _user(name: str) -> pwd.struct_passwd | None:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(name)
    return None


def _is_alive(group: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, 0)
        return True
    return False


def main() -> None:
    """Run a PostgreSQL until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.postgres.server", description="A PostgreSQL until Ctrl-C; nothing is kept."
    )
    parser.add_argument("--port", type=int, default=5432)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), running(DURABLE, port=arguments.port) as server:
        print(f"PostgreSQL is at {server.dsn}; Ctrl-C ends it and deletes its data.", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
