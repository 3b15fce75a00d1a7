"""Every Python of this machine that perdure supports, for tests that must hold on each of them."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

from tests.interpreters import VERSIONS, find

HOUSE = Path(__file__).parents[1]
# How fast a busy machine makes examples says nothing about perdure.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")
# The main Python has looked for values that fail; the others are asked for a difference of Pythons.
settings.register_profile("other Python", settings.get_profile("busy machine"), max_examples=20)
TOGETHER = ("tests/unit/core/",)


@dataclass(frozen=True)
class Interpreter:
    """A Python that can import perdure's platform.

    Attributes:
        version: major and minor.
        executable: to run it.
        path: for PYTHONPATH.
    """

    version: str
    executable: str
    path: tuple[str, ...]

    def start(self, *arguments: str | Path, hash_seed: str = "random") -> subprocess.Popen[str]:
        """Start it on a script, its output in pipes."""
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(self.path),
            "PYTHONHASHSEED": hash_seed,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        environment.pop("PYENV_VERSION", None)
        return subprocess.Popen(
            [self.executable, *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str]) -> str:
        """Wait for a script that was started; what it printed."""
        out, error = process.communicate(timeout=150)
        assert process.returncode == 0, f"{process.args!r} ended with {process.returncode}:\n{error}\n{out}"
        return out

    def run(self, *arguments: str | Path) -> str:
        """Run a script to its end; what it printed."""
        return self.finish(self.start(*arguments))


class ByFile(LoadFileScheduling):  # type: ignore[misc]
    """`make test` runs files beside each other; the tests of a file, and of the folders `TOGETHER`,
    run in one process."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((folder for folder in TOGETHER if file.startswith(folder)), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Asked for by pytest-xdist."""
    return ByFile(config, log)


def pytest_sessionstart() -> None:
    """Asked for by pytest: what is imported and collected stays, so nothing of it is garbage."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Asked for by pytest."""
    gc.enable()


@pytest.fixture(autouse=True, scope="module")
def collector_looks_at_the_tests_of_one_file() -> None:
    """Many of them run it, and the objects of all tests before would take minutes."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", params=(*VERSIONS, "3.14"))
def interpreter(request: pytest.FixtureRequest) -> Interpreter:
    """Each Python from 3.11 that this machine has; skipped where it has none of that version."""
    version: str = request.param
    platform = str(HOUSE / "platform")
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return Interpreter(version, sys.executable, (platform,))
    executable = find(version)
    if executable is None:
        pytest.skip(f"this machine has no Python {version}")
    return Interpreter(version, executable, (platform, _msgspec_for(version)))


def _msgspec_for(version: str) -> str:
    """The folder with the one library that the tested part needs, for that Python; installed once,
    inside this virtual environment."""
    folder = Path(sys.prefix) / "other-pythons" / version
    if not (folder / "msgspec").is_dir():
        if sys.prefix == sys.base_prefix:
            pytest.skip("not in a virtual environment: nowhere to install msgspec for another Python")
        wanted = f"msgspec=={metadata.version('msgspec')}"
        options = ["--quiet", "--disable-pip-version-check", "--only-binary=:all:", "--no-deps"]
        installed = subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                *options,
                "--python-version",
                version,
                "--target",
                str(folder),
                wanted,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if installed.returncode:
            pytest.skip(
                f"cannot install {wanted} for Python {version}: {installed.stderr.strip().splitlines()[-1]}"
            )
    return str(folder)
