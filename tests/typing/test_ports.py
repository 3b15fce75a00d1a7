"""Both type checkers accept the ports, but for exactly the lines that end in `# BAD`.

`# BAD mypy` or `# BAD pyright`: only that one can see it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PORTS = sorted(Path(__file__).parent.glob("ports/*.py"))

Lines = set[tuple[str, int]]
Findings = dict[tuple[str, int], list[str]]

# A port shows usage: names that nothing reads are no fault of the interface.
UNUSED = {"reportUnusedVariable", "reportUnusedFunction", "reportUnusedClass", "reportUnusedImport"}


def bad_lines(checker: str) -> Lines:
    lines: Lines = set()
    for port in PORTS:
        for number, line in enumerate(port.read_text().splitlines(), 1):
            if (found := re.search(r"# BAD(?: (mypy|pyright))?$", line)) and found[1] in (None, checker):
                lines.add((port.name, number))
    return lines


def run_mypy(tmp_path: Path) -> Findings:
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        "pyproject.toml",
        "--no-error-summary",
        *map(str, PORTS),
    ]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert not output.stderr, output.stderr
    findings: Findings = defaultdict(list)
    for line in output.stdout.splitlines():
        if found := re.match(r"(.+?):(\d+): error: (.*)", line):
            findings[Path(found[1]).name, int(found[2])].append(found[3])
    return findings


def run_pyright(tmp_path: Path) -> Findings:
    settings = {
        "include": [os.path.relpath(port, tmp_path) for port in PORTS],  # it refuses absolute ones
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
        "extraPaths": [str(ROOT / "platform"), str(ROOT / "workers")],
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [
        sys.executable,
        "-m",
        "pyright",
        "--outputjson",
        "--pythonpath",
        sys.executable,
        "-p",
        str(tmp_path),
    ]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    findings: Findings = defaultdict(list)
    for found in json.loads(output.stdout)["generalDiagnostics"]:
        if found["severity"] == "error" and found.get("rule") not in UNUSED:
            findings[Path(found["file"]).name, found["range"]["start"]["line"] + 1].append(found["message"])
    return findings


@pytest.mark.parametrize(("checker", "run"), [("mypy", run_mypy), ("pyright", run_pyright)])
def test_exactly_the_bad_lines_are_rejected(
    checker: str, run: Callable[[Path], Findings], tmp_path: Path
) -> None:
    findings = run(tmp_path)
    wanted = bad_lines(checker)
    assert len(wanted) > 40
    false_alarms = {line: texts for line, texts in findings.items() if line not in wanted}
    assert not false_alarms
    assert not wanted - findings.keys(), "accepted, but must be rejected"
