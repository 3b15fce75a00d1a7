"""Runs several engines on one machine: the same command once per engine, restarted when one
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
"""The pause before a process is started again, in case it cannot start at all, seconds."""
REFUSED: Final = 2
"""The exit code of a wrong command line: a restart would fail in the same way."""


def run_several(count: int, instance: str, metrics_port: int | None) -> None:
    """Run until SIGINT or SIGTERM, which every process gets. A second one kills them.

    Args:
        count: the number of processes.
        instance: the prefix of their names, if given.
        metrics_port: the port of the first process; the others use the following ports.

    Raises:
        SystemExit: a process cannot start.
    """
    is_stopping = threading.Event()
    processes: list[subprocess.Popen[bytes]] = []

    def stop(_: int) -> None:
        if is_stopping.is_set():
            for process in processes:
                process.kill()
        is_stopping.set()

    on_signals(stop)
    processes += [_start(index, instance, metrics_port) for index in range(count)]
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
    """Start one process. Its own options are appended, since a later option overrides an earlier
    one and the environment.
    """
    more = ["--processes", "1"]
    if instance:
        more += ["--instance", f"{instance}-{index}"]
    if metrics_port:
        more += ["--metrics-port", str(metrics_port + index)]
    command = [sys.executable, "-P", "-m", "perdure.cli", *sys.argv[1:], *more]
    return subprocess.Popen(command, start_new_session=True, env=os.environ)  # noqa: S603 - our own command line; Ctrl-C comes from us
