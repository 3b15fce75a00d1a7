"""What README.md says about installing: the wheel of this clone, with an extra, in an environment
of its own, makes and serves a project."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.e2e.conftest import until

HOUSE = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.timeout(600)
def test_a_project_is_made_and_served_by_what_is_installed_from_the_wheel(tmp_path: Path) -> None:
    source, dist = tmp_path / "clone", tmp_path / "dist"
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=HOUSE).splitlines()
    for name in listed:
        if (HOUSE / name).is_file() and not name.startswith(
            ("tests/", "docs/", "bench/", "deploy/helm", "deploy/e2e")
        ):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(HOUSE / name, source / name)
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        dist,
        source,
        cwd=tmp_path,
    )
    (wheel,) = dist.glob("perdure-*.whl")
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    pins = tmp_path / "pins.txt"
    pins.write_text(run(sys.executable, source / "deploy/dependencies/pins.py", "kafka", cwd=tmp_path))
    pip = (environment / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--require-hashes", "--requirement", pins, cwd=tmp_path)
    run(*pip, "--no-index", f"{wheel}[kafka]", cwd=tmp_path)  # whatever the wheel asks for is there
    perdure = environment / "bin" / "perdure"
    version = run(
        environment / "bin" / "python",
        "-c",
        "from perdure.version import __version__ as v; print(v)",
        cwd=tmp_path,
    ).strip()
    assert run(perdure, "--version", cwd=tmp_path).strip() == f"perdure {version}"
    run(perdure, "init", "hello", cwd=tmp_path)
    hello, output = tmp_path / "hello", tmp_path / "output"
    with output.open("wb") as said:
        dev = subprocess.Popen([perdure, "dev", "app.py"], cwd=hello, stdout=said, stderr=said)
    try:
        until(lambda: "perdure workflow start" in output.read_text(), "it serves", 60)
        run(perdure, "workflow", "start", "greeting-1", "Greeting", "Ada", cwd=hello)
        run(perdure, "workflow", "signal", "greeting-1", "approve", "Grace", cwd=hello)
        assert "Ada" in run(perdure, "workflow", "result", "greeting-1", cwd=hello)
        dev.send_signal(signal.SIGTERM)
        assert dev.wait(60) == 0
    finally:
        dev.kill()
        dev.wait()
