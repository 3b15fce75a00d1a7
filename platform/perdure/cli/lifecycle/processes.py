"""Several engines of one machine: the same command once more for each, started again when one
ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import Final

from perdure.cli.lifecycle.signals import on_signals
from perdure.cli.options.metrics import say

RETRY_AFTER_S: Final = 1.0
"""Between the end of a process and its next start: it may not start at all."""
REFUSED: Final = 2
"""The exit code of a wrong command line: another start would say the same."""


def run_several(count: int, instance: str, metrics_port: int | None) -> None:
    """Run until SIGINT or SIGTERM, which every process gets.

    Args:
        count: of processes.
        instance: their names begin with it, when it is given.
        metrics_port: of the first; the others have the next ones.

    Raises:
        SystemExit: one cannot start.
    """
    is_stopping = threading.Event()

    on_signals(lambda _: is_stopping.set())
    processes = [_start(index, instance, metrics_port) for index in range(count)]
    code = 0
    while not is_stopping.wait(0.2):
        for index, process in enumerate(processes):
            if process.poll() is None:
                continue
            if process.returncode == REFUSED:
                code = REFUSED
                is_stopping.set()
                break
            say(f"perdure: engine {index} exited with code {process.returncode}; restarted")
            if is_stopping.wait(RETRY_AFTER_S):
                break
            processes[index] = _start(index, instance, metrics_port)
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in processes:
        process.wait()
    raise SystemExit(code)


def _start(index: int, instance: str, metrics_port: int | None) -> subprocess.Popen[bytes]:
    """The later of two options counts, and an option counts more than the environment."""
    more = ["--processes", "1"]
    if instance:
        more += ["--instance", f"{instance}-{index}"]
    if metrics_port:
        more += ["--metrics-port", str(metrics_port + index)]
    command = [sys.executable, "-P", "-m", "perdure.cli", *sys.argv[1:], *more]
    return subprocess.Popen(command, start_new_session=True, env=os.environ)  # noqa: S603 - our own command line; Ctrl-C comes from us
