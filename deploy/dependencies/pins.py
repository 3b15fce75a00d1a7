"""The part of constraints.txt that some extras need, as requirements with hashes.

    python deploy/dependencies/pins.py [EXTRA ...] > requirements.txt
    pip install --require-hashes --requirement requirements.txt

pip takes hashes from requirements only, and then asks for a hash of everything that it installs:
the whole closure must be listed. constraints.txt has it: `# via` names who needs a package. The
build backend is listed too, so that perdure itself is built without a download. This file runs
before anything is installed: it imports the standard library only.
"""

from __future__ import annotations

import re
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

HOUSE: Final = Path(__file__).parents[2]
BUILD: Final = ("hatchling", "editables")
"""The backend of pyproject.toml, and what it needs to install in place."""
_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass
class Pin:
    """One entry of constraints.txt.

    Attributes:
        text: as it is there, hashes included.
        version: the one that is installed.
        needed_by: the names after `via`.
    """

    text: str
    version: str
    needed_by: set[str] = field(default_factory=set[str])


def normal(name: str) -> str:
    """A distribution's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read(file: Path = HOUSE / "constraints.txt") -> dict[str, Pin]:
    """All pins by name."""
    pins: dict[str, Pin] = {}
    for entry in re.split(r"\n(?=\w)", file.read_text().strip()):
        name, _, rest = entry.partition("==")
        version = rest.split()[0]
        via = re.search(r"# via (.+)", entry)
        needed_by = {normal(each.split()[0]) for each in via[1].split(", ")} if via else set[str]()
        pins[normal(name)] = Pin(entry, version, needed_by)
    return pins


def direct(extras: set[str], file: Path = HOUSE / "pyproject.toml") -> set[str]:
    """The names that perdure with these extras requires.

    Raises:
        SystemExit: there is no such extra.
    """
    project: dict[str, Any] = tomllib.loads(file.read_text())["project"]
    optional: dict[str, list[str]] = project["optional-dependencies"]
    if unknown := extras - optional.keys():
        sys.exit(f"pins.py: there is no extra {', '.join(sorted(unknown))}; there are {', '.join(optional)}")
    lines: list[str] = [*project["dependencies"], *(line for extra in extras for line in optional[extra])]
    own = [line for line in lines if line.startswith("perdure[")]
    names = {_name(line) for line in lines if line not in own}
    return names.union(
        *(direct(set(line.removeprefix("perdure[").rstrip("]").split(",")), file) for line in own)
    )


def _name(requirement: str) -> str:
    found = _NAME.match(requirement)
    assert found is not None
    return normal(found[0])


def closure(names: set[str], pins: dict[str, Pin]) -> set[str]:
    """The names, and all that they need, directly or not."""
    found = set(names)
    while more := {name for name, pin in pins.items() if name not in found and pin.needed_by & found}:
        found |= more
    return found


def main(extras: list[str]) -> None:
    """Print the requirements of these extras and of the build."""
    pins = read()
    for name in sorted(closure(direct(set(extras)) | set(BUILD), pins)):
        print(pins[name].text)


if __name__ == "__main__":
    main(sys.argv[1:])
