"""A Python that the machine does not have is named, and fails the run where it is required."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import pythons
from tests.interpreters import VERSIONS

HOUSE = Path(__file__).parents[2]
OTHERS = [version for version in VERSIONS if version != f"{sys.version_info.major}.{sys.version_info.minor}"]


@pytest.mark.parametrize(
    ("missing", "failing", "required", "code"),
    [
        ([], [], "", 0),
        ([], [], "1", 0),
        ([OTHERS[0]], [], "", 0),
        ([OTHERS[0]], [], "1", 1),
        ([], [OTHERS[1]], "", 1),
        ([OTHERS[0]], [OTHERS[1]], "", 1),
    ],
)
def test_a_missing_python_fails_where_it_is_required_and_a_failing_one_everywhere(
    missing: list[str],
    failing: list[str],
    required: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ran: list[str] = []

    def passes(version: str, *_: object) -> bool:
        ran.append(version)
        return version not in failing

    def made(_: str, executable: str) -> Path:
        return Path(executable)

    def find(version: str) -> str | None:
        return None if version in missing else f"/bin/python{version}"

    monkeypatch.setattr(pythons, "find", find)
    monkeypatch.setattr(pythons, "environment", made)
    monkeypatch.setattr(pythons, "_passes", passes)
    monkeypatch.setattr(sys, "argv", ["pythons"])
    monkeypatch.setenv("PERDURE_REQUIRE_PYTHONS", required)
    with pytest.raises(SystemExit) as ended:
        pythons.main()
    assert ended.value.code == code
    assert ran == [version for version in OTHERS if version not in missing]
    said = capsys.readouterr().out
    for version in OTHERS:
        state = "NOT RUN" if version in missing else "failed" if version in failing else "passed"
        assert f"Python {version}: unit, integration and compatibility tiers {state}" in said


@pytest.mark.parametrize(
    ("has_pyenv", "given", "required"),
    [(True, None, "1"), (False, None, ""), (True, "", ""), (True, "0", "0"), (False, "1", "1")],
)
def test_continuous_integration_requires_every_python_where_pyenv_is(
    tmp_path: Path, has_pyenv: bool, given: str | None, required: str
) -> None:
    (tmp_path / "bin").mkdir()
    make = tmp_path / "bin" / "make"
    make.write_text('#!/bin/sh\nprintf "%s|%s" "$*" "$PERDURE_REQUIRE_PYTHONS"\n')
    make.chmod(0o755)
    if has_pyenv:
        (tmp_path / ".pyenv" / "versions").mkdir(parents=True)
    environment = {"HOME": str(tmp_path), "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    if given is not None:
        environment["PERDURE_REQUIRE_PYTHONS"] = given
    said = subprocess.run(
        [HOUSE / ".ci" / "run"], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert said == f"test|{required}"
