"""The Pythons that this machine has, of those that perdure supports."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

VERSIONS: Final = ("3.11", "3.12", "3.13")
"""What perdure supports: the classifiers of pyproject.toml."""


def find(version: str) -> str | None:
    """The executable of a Python.

    Args:
        version: major and minor.

    Returns:
        One that pyenv has installed, or one of the PATH; None when there is neither.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [
        *sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True),
        shutil.which(f"python{version}"),
    ]
    for candidate in candidates:
        if candidate is not None and _version(str(candidate)) == version:
            return str(candidate)
    return None


def _version(executable: str) -> str:
    """What it says it is: a shim of pyenv on the PATH may lead to no Python at all."""
    asked = subprocess.run(
        [executable, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip()
