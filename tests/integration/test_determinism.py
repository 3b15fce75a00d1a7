"""I5: the code does the same again in a fresh process with another hash seed, another heap and
other runs beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.conftest import Interpreter

CORPUS: Final = Path(__file__).parent / "determinism_corpus.py"
HASH_SEEDS: Final = ("0", "1", "2", "3")
PROGRAMS: Final = 19
SCHEDULES: Final = 5


def digests(interpreter: Interpreter, *arguments: str) -> list[dict[str, str]]:
    """The results of several concurrent processes for the corpus."""
    processes = [interpreter.start(CORPUS, *arguments, hash_seed=seed) for seed in HASH_SEEDS]
    return [json.loads(interpreter.finish(process)) for process in processes]


def test_programs_do_the_same_in_every_process(interpreter: Interpreter) -> None:
    first, *others = digests(interpreter)
    assert len(first) == PROGRAMS * SCHEDULES
    for other in others:
        assert [name for name in first if other[name] != first[name]] == []


def test_a_program_that_iterates_a_set_of_strings_is_seen_to_differ(interpreter: Interpreter) -> None:
    first, *others = digests(interpreter, "leak")
    differ = {name for other in others for name in first if other[name] != first[name]}
    assert differ == {f"leak/{schedule}" for schedule in range(SCHEDULES)}
