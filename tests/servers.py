"""Where the tests take a server from: one that is named, a container, or a process of this machine,
the first that there is."""

from __future__ import annotations

import contextlib
import enum
import importlib.util
import os
import subprocess


class Source(enum.Enum):
    """The source of a server."""

    NAMED = "an environment variable names it"
    CONTAINER = "testcontainers starts it, by Docker"
    PROCESS = "the tests start it, from this machine's programs"


def source(variable: str) -> Source:
    """The source of a server.

    Args:
        variable: of the environment, with the address of a server that is there; an empty one names
            none.
    """
    if os.environ.get(variable):
        return Source.NAMED
    if importlib.util.find_spec("testcontainers") is not None and docker_answers():
        return Source.CONTAINER
    return Source.PROCESS


def docker_answers() -> bool:
    """Whether there is a Docker that this user may use."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return (
            subprocess.run(["docker", "info"], capture_output=True, timeout=10, check=False).returncode == 0
        )
    return False
