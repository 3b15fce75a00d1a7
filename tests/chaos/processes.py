"""The processes of a chaos run: started as a user starts them, killed, stopped and frozen, started
again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.kafka.broker import BOUND_TO_PARENT, spawned

ROOT = Path(__file__).parents[2]
STARTING_S = 10.0


class Process:
    """One process that comes back under the same name.

    Args:
        name: for the log.
        command: to start it.
        environment: besides ours.
        output: file that it writes to.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], output: Path
    ) -> None:
        self.name = name
        self.output = output
        given = [f"{key}={value}" for key, value in environment.items()]
        env = ["env", f"--chdir={ROOT}", *given]
        self._command = [sys.executable, "-c", BOUND_TO_PARENT, str(os.getpid()), *env, *command]
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self.is_meant_to_run = False

    def start(self) -> None:
        assert self._process is None or self._process.poll() is not None
        with self.output.open("ab") as output:
            output.write(f"---- {time.strftime('%H:%M:%S')} {self.name} is started\n".encode())
            output.flush()
            self._process = spawned(self._command, output)
        self._started_at = time.monotonic()
        self.is_meant_to_run = True

    def kill(self) -> None:
        """SIGKILL, and its end."""
        self.is_meant_to_run = False
        self._signal(signal.SIGKILL)
        self._wait(10)

    def terminate(self, grace_s: float = 30) -> bool:
        """SIGTERM, and its end; whether it ended in time, and well: one that has hardly begun knows
        no signals yet."""
        self.is_meant_to_run = False
        self._signal(signal.SIGTERM)
        try:
            code = self._wait(grace_s)
            return code == 0 or (code == -signal.SIGTERM and self._is_starting)
        except subprocess.TimeoutExpired:
            self.kill()
            return False

    @property
    def _is_starting(self) -> bool:
        """It has said nothing yet, however long ago it was started: it may have been frozen
        meanwhile. Or it was started a moment ago."""
        return self.tail().endswith("is started\n") or time.monotonic() - self._started_at < STARTING_S

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        assert self._process is not None
        return self._process.poll()

    @property
    def rss_mb(self) -> int:
        """Memory, MB; 0 when it does not run."""
        try:
            pages = int(
                Path(f"/proc/{self._process.pid if self._process else 0}/statm").read_text().split()[1]
            )
        except (OSError, IndexError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE") >> 20

    def tail(self, size: int = 1500) -> str:
        """The end of what it has written."""
        return self.output.read_text(errors="replace")[-size:]

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _wait(self, timeout_s: float) -> int:
        return self._process.wait(timeout_s) if self._process is not None else 0
