"""The catalogue of planted bugs: small patches, each with the tests that must find it.

A mutant replaces one piece of text that occurs exactly once in one file. Text is used instead of
line-based diffs because it still applies after code around it has moved, and says immediately when
it no longer applies.

Each file in `catalogue/` is a list of tables:

    [[mutant]]
    id = "timer-fires-early"                  # unique, what the bug does
    file = "platform/perdure/engine/timers.py"
    find = "timer.fires_at <= at"             # occurs once in the file
    replace = "timer.fires_at <= at + 1"
    tests = ["tests/unit/engine/test_timer_queue.py"]
    survives = "why no test can find it"      # only for a mutant that is known to survive
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

HOUSE: Final = Path(__file__).parents[2]
FOLDER: Final = Path(__file__).parent / "catalogue"
KEYS: Final = {"id", "file", "find", "replace", "tests", "survives"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted bug.

    Attributes:
        id: what the bug does; unique.
        file: the file that it changes, relative to the repository.
        find: the text that is replaced; occurs once in the file.
        replace: what the file says instead.
        tests: what pytest is given, relative to the repository: files, folders or node ids.
        survives: why no test finds it; empty for one that must be found.
        catalogue: the name of the file that lists it, without `.toml`.
    """

    id: str
    file: str
    find: str
    replace: str
    tests: tuple[str, ...]
    survives: str = ""
    catalogue: str = ""

    def fault(self, house: Path = HOUSE) -> str:
        """Why it cannot be applied or tried; empty when it can."""
        file = house / self.file
        if not file.is_file():
            return f"there is no file {self.file}"
        text = file.read_text()
        if (count := text.count(self.find)) != 1:
            return f"`find` occurs {count} times in {self.file}, not once"
        if self.find == self.replace:
            return "`replace` equals `find`"
        if not self.tests:
            return "it names no tests"
        absent = [test for test in self.tests if not (house / test.partition("::")[0]).exists()]
        return f"there is no {', '.join(absent)}" if absent else ""

    def apply(self, house: Path) -> None:
        """Plant the bug in the checkout at `house`."""
        file = house / self.file
        file.write_text(file.read_text().replace(self.find, self.replace))


def load(folder: Path = FOLDER, files: Collection[str] = ()) -> list[Mutant]:
    """Mutants of the catalogue, in order of file and position.

    Args:
        folder: holds the files.
        files: names of those to read, without `.toml`; empty: all.

    Raises:
        FileNotFoundError: there is no file of one of the names.
        ValueError: an entry has a key that is not known, or lacks one; the message names it.
    """
    mutants: list[Mutant] = []
    for file in [folder / f"{name}.toml" for name in files] or sorted(folder.glob("*.toml")):
        for entry in tomllib.loads(file.read_text()).get("mutant", []):
            name = entry.get("id", "without an id")
            if wrong := (entry.keys() - KEYS) | ({"id", "file", "find", "replace", "tests"} - entry.keys()):
                message = f"{file.name}: mutant {name}: unknown or missing keys: {', '.join(sorted(wrong))}"
                raise ValueError(message)
            fields: dict[str, Any] = {**entry, "tests": tuple(entry["tests"]), "catalogue": file.stem}
            mutants.append(Mutant(**fields))
    return mutants
