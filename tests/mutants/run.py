"""Plant the bugs of the catalogue one by one and report which of them the tests find.

    python -m tests.mutants.run [--file NAME ...] [--only TEXT] [--jobs 2] [--json FILE]

Works on copies of the checkout, never on the checkout itself. The named tests run first without any
bug: a test that fails by itself finds nothing. Prints a line per mutant and a summary; exits with 1
when fewer than 95 % of the mutants are found, or when one that is listed as surviving without a
reason survives.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from tests.mutants.catalogue import HOUSE, Mutant, load
from tests.mutants.forking import PRELOAD

ROOTS: Final = ("platform", "schemas", "workers", "api")
REQUIRED_SHARE: Final = 0.95
FORKING: Final = Path(__file__).with_name("forking.py")
TIMEOUT_S: Final = 300.0
"""A mutant that makes its tests hang is found, after this long."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of one mutant.

    Attributes:
        id: the mutant's.
        outcome: found, hung (found, by the time limit), survived, or unusable (it does not apply,
            or its tests fail without it).
        seconds: how long its tests took.
        detail: the first test that failed, or why it is unusable.
    """

    id: str
    outcome: str
    seconds: float
    detail: str


class Checkout:
    """A checkout in which bugs are planted, and in which tests run against its own code.

    Args:
        path: of its folder.
        preloads: whether what tests use of others is imported before: 3 s, for many runs.
    """

    def __init__(self, path: Path, *, preloads: bool = True) -> None:
        self.path = path
        self._faults: dict[str, str] = {}
        self._output = Path(tempfile.mkstemp(prefix="mutant-", suffix=".log")[1])
        self._forking = subprocess.Popen(
            [sys.executable, FORKING, *([PRELOAD] if preloads else [])],
            cwd=path,
            env=self._environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @classmethod
    def copy(cls, path: Path) -> Self:
        """Of the tracked files, and those that git does not ignore."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=HOUSE,
            capture_output=True,
            check=True,
        )
        for name in listed.stdout.decode().split("\0"):
            if name and (HOUSE / name).is_file():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(HOUSE / name, path / name)
        # Some tests ask git which files are the project's.
        subprocess.run(["git", "init", "-q"], cwd=path, check=True)
        subprocess.run(["git", "add", "-A"], cwd=path, check=True)
        (path / ".venv").symlink_to(HOUSE / ".venv")
        # Compiled once, not by every run of tests. Found by what the source says, not by its time:
        # a mutant is compiled again.
        compile_all = [
            sys.executable,
            "-m",
            "compileall",
            "-q",
            "--invalidation-mode",
            "checked-hash",
            *ROOTS,
        ]
        subprocess.run(compile_all, cwd=path, check=True)
        return cls(path)

    def close(self) -> None:
        """End its process."""
        self._forking.communicate()
        self._output.unlink()

    def run(self, tests: tuple[str, ...]) -> tuple[int | None, str]:
        """Run tests.

        Returns:
            pytest's exit code (None: it did not end in time), and the first line that names a
            failure.
        """
        # The plugin of schemathesis takes a second to import, and no test uses it. What was
        # imported before is not pytest's to rewrite.
        quickly = ("-p", "no:schemathesis", "-W", "ignore::pytest.PytestAssertRewriteWarning")
        options = ("-x", "-q", "--no-header", "-p", "no:cacheprovider", *quickly, "-n", "0")
        assert self._forking.stdin is not None
        assert self._forking.stdout is not None
        print(json.dumps([[*options, *tests], str(self._output)]), file=self._forking.stdin, flush=True)
        process = int(self._forking.stdout.readline())
        late = threading.Timer(TIMEOUT_S, os.killpg, (process, signal.SIGKILL))
        late.start()
        code = int(self._forking.stdout.readline())
        late.cancel()
        with suppress(ProcessLookupError):  # brokers and servers that the tests started
            os.killpg(process, signal.SIGKILL)
        output = self._output.read_text(errors="replace")
        failures = [line for line in output.splitlines() if re.match(r"(FAILED|ERROR) \S", line)]
        last = (output.strip().splitlines() or [""])[-1]
        return None if code == -signal.SIGKILL else code, (failures[0] if failures else last)[:160]

    def _environment(self) -> dict[str, str]:
        # PYTHONPATH comes before the editable install, so that processes which the tests start
        # import the copy as well.
        roots = os.pathsep.join(str(self.path / root) for root in ROOTS)
        return {**os.environ, "PYTHONPATH": roots, "PYTHONDONTWRITEBYTECODE": "1"}

    def fault(self, mutant: Mutant) -> str:
        """Why a mutant cannot be tried: it does not apply, or its tests fail without it; empty when
        it can."""
        if found := mutant.fault(self.path):
            return found
        files = {test.partition("::")[0] for test in mutant.tests}
        if any(self._fault_of(file) for file in files) and (found := self._fault_of(*mutant.tests)):
            return f"its tests fail without it: {found}"
        return ""

    def _fault_of(self, *tests: str) -> str:
        """The tests that fail without any mutant; each is run once."""
        name = " ".join(tests)
        if name not in self._faults:
            code, detail = self.run(tests)
            self._faults[name] = "" if code == 0 else detail or "they do not end in time"
        return self._faults[name]

    def attempt(self, mutant: Mutant) -> Trial:
        """Plant one bug, run its tests and remove it again."""
        started = time.perf_counter()
        file = self.path / mutant.file
        original = file.read_bytes()
        mutant.apply(self.path)
        try:
            code, detail = self.run(mutant.tests)
        finally:
            file.write_bytes(original)
        # 1: a test failed. 2 to 5: pytest itself could not run them, which is no proof that a test
        # looks at the behaviour.
        outcome = {0: "survived", 1: "found", None: "hung"}.get(code, "unusable")
        return Trial(
            mutant.id,
            outcome,
            round(time.perf_counter() - started, 1),
            detail if outcome != "survived" else "",
        )


def attempt_all(mutants: list[Mutant], jobs: int) -> list[Trial]:
    """Try every mutant, several at a time, and print a line for each as it ends."""
    pending: queue.SimpleQueue[Mutant] = queue.SimpleQueue()
    trials: list[Trial] = []
    for mutant in mutants:
        pending.put(mutant)

    def work(folder: Path) -> None:
        checkout = Checkout.copy(folder)
        try:
            try_those_left(checkout)
        finally:
            checkout.close()

    def try_those_left(checkout: Checkout) -> None:
        while True:
            try:
                mutant = pending.get_nowait()
            except queue.Empty:
                return
            fault = checkout.fault(mutant)
            trial = Trial(mutant.id, "unusable", 0.0, fault) if fault else checkout.attempt(mutant)
            trials.append(trial)
            print(f"{trial.outcome:9} {trial.seconds:6.1f} s  {trial.id}  {trial.detail}", flush=True)

    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        threads = [
            threading.Thread(target=work, args=(Path(folder) / str(number),)) for number in range(jobs)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return trials


def main() -> int:
    """Run the catalogue.

    Returns:
        The process's exit code.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="only mutants whose id or file contains this text")
    parser.add_argument(
        "--file", nargs="+", default=[], metavar="NAME", help="only mutants of these files of the catalogue"
    )
    parser.add_argument("--jobs", type=int, default=2, help="how many are tried at the same time")
    parser.add_argument("--json", type=Path, help="write the result of each mutant to this file")
    options = parser.parse_args()
    mutants = [
        mutant
        for mutant in load(files=options.file)
        if options.only in mutant.id or options.only in mutant.file
    ]
    trials = attempt_all(mutants, options.jobs)
    by_id = {mutant.id: mutant for mutant in mutants}
    found = sum(trial.outcome in {"found", "hung"} for trial in trials)
    missed = [trial for trial in trials if trial.outcome not in {"found", "hung"}]
    for trial in missed:
        print(
            f"not found: {trial.id} ({by_id[trial.id].file}): "
            f"{by_id[trial.id].survives or trial.detail or 'no test fails'}"
        )
    for name in sorted({mutant.catalogue for mutant in mutants}):
        of_file = [trial for trial in trials if by_id[trial.id].catalogue == name]
        found_of_file = sum(trial.outcome in {"found", "hung"} for trial in of_file)
        print(f"{name}.toml: {len(of_file)} tried, {found_of_file} found, {len(of_file) - found_of_file} not")
    print(
        json.dumps({"mutants": len(trials), "found": found, "share": round(found / max(1, len(trials)), 3)})
    )
    if options.json:
        options.json.write_text(json.dumps([asdict(trial) for trial in trials], indent=1))
    unexplained = [trial for trial in missed if not by_id[trial.id].survives]
    return int(not trials or found < REQUIRED_SHARE * len(trials) or bool(unexplained))


if __name__ == "__main__":
    raise SystemExit(main())
