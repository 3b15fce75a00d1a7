"""The unit, integration and compatibility tiers on the other Pythons that perdure supports.

    python -m tests.pythons [--jobs 2] [--versions 3.12,3.13] [-- ARGUMENTS of pytest]

Each Python gets a virtual environment inside the one that runs this, made from the same pins. A
Python that this machine does not have is named at the end; with PERDURE_REQUIRE_PYTHONS=1 that is a
failure, as it is in `.ci/run` on a machine that has pyenv.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.interpreters import VERSIONS, find

HOUSE: Final = Path(__file__).parents[1]
EXTRAS: Final = ("api", "examples", "kafka", "payloads", "postgres", "test")
ROOTS: Final = ("platform", "schemas", "workers", "api")
TIERS: Final = ("tests/integration", "tests/compatibility", "tests/unit")
TEXTS: Final = (
    "tests/integration/test_documents.py",
    "tests/unit/cli/test_help.py",
    "tests/unit/cli/test_option_wording.py",
    "tests/unit/test_house.py",
    "tests/unit/test_mutants.py",
    "tests/unit/test_pins.py",
    "tests/unit/test_schemas.py",
)
"""Tests of what this repository says and prints, which is the same on every Python."""
MADE_FROM: Final = ("constraints.txt", "pyproject.toml", "deploy/dependencies/pins.py", "tests/pythons.py")


def environment(version: str, executable: str) -> Path:
    """The Python of an up-to-date virtual environment for that version; makes it when there is
    none, or an old one."""
    folder = Path(sys.prefix) / "pythons" / version
    python, stamp = folder / "bin" / "python", folder / "made-from"
    made_from = hashlib.sha256(b"".join((HOUSE / name).read_bytes() for name in MADE_FROM)).hexdigest()
    if not stamp.exists() or stamp.read_text() != made_from:
        _run(executable, "-m", "venv", "--clear", str(folder))
        pins = folder / "requirements.txt"
        pins.write_text(_said(sys.executable, "deploy/dependencies/pins.py", *EXTRAS))
        pip = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        _run(*pip, "--require-hashes", "--requirement", str(pins))
        _run(*pip, "--no-deps", "--no-build-isolation", "--editable", ".")
        stamp.write_text(made_from)
    return python


def main() -> None:
    """Run the tiers on each; exit with 1 when one fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.pythons")
    parser.add_argument("--jobs", default="2", help="processes of pytest")
    parser.add_argument("--versions", default=",".join(VERSIONS), help="but never the one that runs this")
    parser.add_argument("pytest", nargs="*", help="arguments of pytest, in place of these tiers")
    arguments = parser.parse_args()
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    wanted = [version for version in arguments.versions.split(",") if version != own]
    found = {version: executable for version in wanted if (executable := find(version))}
    with ThreadPoolExecutor() as pool:  # pip waits for the index
        made = dict(zip(found, pool.map(environment, found, found.values()), strict=True))
    failed = [version for version, python in made.items() if not _passes(version, python, arguments)]
    for version in wanted:
        state = (
            f"NOT RUN: this machine has no such Python (`pyenv install {version}`)"
            if version not in found
            else "failed"
            if version in failed
            else "passed"
        )
        print(f"Python {version}: unit, integration and compatibility tiers {state}", flush=True)
    is_incomplete = len(found) < len(wanted) and os.environ.get("PERDURE_REQUIRE_PYTHONS") == "1"
    sys.exit(1 if failed or is_incomplete else 0)


def _passes(version: str, python: Path, arguments: argparse.Namespace) -> bool:
    print(f"Python {version}:", flush=True)
    _run(str(python), "-m", "compileall", "-q", *ROOTS)
    options = (
        "--numprocesses",
        arguments.jobs,
        "--dist",
        "loadfile",
        "--no-loadscope-reorder",
        "-p",
        "no:cacheprovider",
        "--hypothesis-profile=other Python",
        "-q",
    )
    tiers = (*TIERS, *(f"--ignore={name}" for name in TEXTS))
    return (
        subprocess.run(
            [python, "-m", "pytest", *options, *(arguments.pytest or tiers)], cwd=HOUSE, check=False
        ).returncode
        == 0
    )


def _run(*command: str) -> None:
    subprocess.run(command, cwd=HOUSE, check=True)


def _said(*command: str) -> str:
    return subprocess.run(command, cwd=HOUSE, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
