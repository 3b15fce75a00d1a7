"""Plant the bugs of the catalogue one by one and report which of them the tests find.

    python -m tests.mutants.run [--file NAME ...] [--only TEXT] [--jobs 2] [--json FILE]

Works on copies of the checkout, never on the checkout itself. The named tests run first without any bug: a test that fails by
itself finds nothing. Prints a line per mutant and a summary; exits with 1 when fewer than 95 % of the mutants are found, or when one
that is listed as surviving without a reason survives.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
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
from typing import Final

from tests.mutants.catalogue import HOUSE, Mutant, load

ROOTS: Final = ("platform", "schemas", "workers", "api")
REQUIRED_SHARE: Final = 0.95
TIMEOUT_S: Final = 300.0
"""A mutant that makes its tests hang is found, after this long."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of one mutant.

    Attributes:
        id: the mutant's.
        outcome: found, hung (found, by the time limit), survived, or unusable (it does not apply, or its tests fail without it).
        seconds: how long its tests took.
        detail: the first test that failed, or why it is unusable.
    """

    id: str
    outcome: str
    seconds: float
    detail: str


class Checkout:
    """A copy of the tracked files, in which tests run against the copy's own code."""

    def __init__(self, path: Path) -> None:
        self.path = path
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=HOUSE, capture_output=True, check=True
        )
        for name in listed.stdout.decode().split("\0"):
            if name and (HOUSE / name).is_file():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(HOUSE / name, path / name)
        # Some tests ask git which files are the project's.
        subprocess.run(["git", "init", "-q"], cwd=path, check=True)
        subprocess.run(["git", "add", "-A"], cwd=path, check=True)
        (path / ".venv").symlink_to(HOUSE / ".venv")

    def run(self, tests: tuple[str, ...]) -> tuple[int | None, str]:
        """Run tests.

        Returns:
            pytest's exit code (None: it did not end in time), and the first line that names a failure.
        """
        # PYTHONPATH comes before the editable install, so that processes which the tests start import the copy as well.
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(self.path / root) for root in ROOTS),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", "-n", "0", *tests]
        process = subprocess.Popen(
            command, cwd=self.path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            output = process.communicate(timeout=TIMEOUT_S)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            return None, ""
        finally:
            with suppress(ProcessLookupError):  # brokers and servers that the tests started
                os.killpg(process.pid, signal.SIGKILL)
        failures = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
        last = (output.strip().splitlines() or [""])[-1]
        return process.returncode, (failures[0] if failures else last)[:160]

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
        # 1: a test failed. 2 to 5: pytest itself could not run them, which is no proof that a test looks at the behaviour.
        outcome = {0: "survived", 1: "found", None: "hung"}.get(code, "unusable")
        return Trial(mutant.id, outcome, round(time.perf_counter() - started, 1), detail if outcome != "survived" else "")


def attempt_all(mutants: list[Mutant], jobs: int) -> list[Trial]:
    """Try every mutant, several at a time, and print a line for each as it ends."""
    pending: queue.SimpleQueue[Mutant] = queue.SimpleQueue()
    trials: list[Trial] = []
    for mutant in mutants:
        pending.put(mutant)

    def work(checkout: Checkout) -> None:
        passing: dict[tuple[str, ...], str] = {}
        while True:
            try:
                mutant = pending.get_nowait()
            except queue.Empty:
                return
            if not (fault := mutant.fault(checkout.path)):
                if mutant.tests not in passing:
                    code, detail = checkout.run(mutant.tests)
                    passing[mutant.tests] = "" if code == 0 else f"its tests fail without it: {detail}"
                fault = passing[mutant.tests]
            trial = Trial(mutant.id, "unusable", 0.0, fault) if fault else checkout.attempt(mutant)
            trials.append(trial)
            print(f"{trial.outcome:9} {trial.seconds:6.1f} s  {trial.id}  {trial.detail}", flush=True)

    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        threads = [threading.Thread(target=work, args=(Checkout(Path(folder) / str(number)),)) for number in range(jobs)]
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only mutants whose id or file contains this text")
    parser.add_argument("--file", nargs="+", default=[], metavar="NAME", help="only mutants of these files of the catalogue")
    parser.add_argument("--jobs", type=int, default=2, help="how many are tried at the same time")
    parser.add_argument("--json", type=Path, help="write the result of each mutant to this file")
    options = parser.parse_args()
    mutants = [mutant for mutant in load(files=options.file) if options.only in mutant.id or options.only in mutant.file]
    trials = attempt_all(mutants, options.jobs)
    by_id = {mutant.id: mutant for mutant in mutants}
    found = sum(trial.outcome in {"found", "hung"} for trial in trials)
    missed = [trial for trial in trials if trial.outcome not in {"found", "hung"}]
    for trial in missed:
        print(f"not found: {trial.id} ({by_id[trial.id].file}): {by_id[trial.id].survives or trial.detail or 'no test fails'}")
    print(json.dumps({"mutants": len(trials), "found": found, "share": round(found / max(1, len(trials)), 3)}))
    if options.json:
        options.json.write_text(json.dumps([asdict(trial) for trial in trials], indent=1))
    unexplained = [trial for trial in missed if not by_id[trial.id].survives]
    return int(not trials or found < REQUIRED_SHARE * len(trials) or bool(unexplained))


if __name__ == "__main__":
    raise SystemExit(main())
