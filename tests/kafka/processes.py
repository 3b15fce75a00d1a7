"""Engines and workers as processes, started as a user starts them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.kafka.namespace import ROOT, Namespace


def perdure(namespace: Namespace, *command: str) -> list[str]:
    """A command line on the namespace."""
    where = ["--kafka", namespace.bootstrap, "--namespace", namespace.name]
    return [sys.executable, "-m", "perdure.cli", *command, *where]


@contextmanager
def engine(app: str, namespace: Namespace, state_dir: Path) -> Generator[subprocess.Popen[bytes]]:
    """`perdure engine`; killed at the end of the block, if it is not before."""
    with _running(namespace, "engine", app, "--state-dir", str(state_dir)) as process:
        yield process


@contextmanager
def worker(app: str, namespace: Namespace) -> Generator[subprocess.Popen[bytes]]:
    """`perdure worker`; killed at the end of the block, if it is not before. A new one gets the
    tasks of a killed one after six seconds.
    """
    with _running(namespace, "worker", app, "--session-timeout-ms", "6000") as process:
        yield process


@contextmanager
def _running(namespace: Namespace, *command: str) -> Generator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(perdure(namespace, *command), cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
