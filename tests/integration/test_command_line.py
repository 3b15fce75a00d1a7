"""The command line as a whole: its help, its start-up time, its exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2]


def perdure(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "perdure.cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments", [("--help",), ("dev", "--help"), ("workflow", "--help"), ("workflow", "start", "--help")]
)
def test_help_loads_nothing_but_the_command_line(arguments: tuple[str, ...]) -> None:
    """That is what makes it quick."""
    code = (
        "import sys; from perdure.cli import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert "Usage: perdure" in done.stdout
    loaded = done.stderr.split()
    ours = {name for name in loaded if name.startswith("perdure.") and not name.startswith("perdure.cli")}
    assert ours == {"perdure.errors"}
    assert not {
        "asyncio",
        "confluent_kafka",
        "fastapi",
        "fastavro",
        "httpx",
        "msgspec",
        "psycopg",
        "sqlite3",
        "uvicorn",
    } & {*loaded}


def test_help_names_every_command() -> None:
    out = perdure("--help").stdout
    assert all(
        command in out
        for command in ("dev", "init", "check", "workflow", "dead-letters", "--install-completion")
    )
    out = perdure("workflow", "--help").stdout
    assert all(
        command in out
        for command in [
            "start",
            "list",
            "show",
            "history",
            "signal",
            "query",
            "result",
            "cancel",
            "terminate",
        ]
    )


def test_the_shell_completes_commands() -> None:
    shell = {"_PERDURE_COMPLETE": "complete_bash", "COMP_WORDS": "perdure workf", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "perdure.cli"],
        env={**os.environ, **shell},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "workflow"


def test_a_wrong_command_line_exits_with_2() -> None:
    for arguments in (("nonsense",), ("workflow", "start"), ("workflow", "list", "-o", "xml"), ("dev",)):
        done = perdure(*arguments)
        assert done.returncode == 2, done
        assert not done.stdout


def test_init_makes_a_project_that_loads(tmp_path: Path) -> None:
    done = perdure("init", "my-shop", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "perdure dev app.py" in done.stdout
    made = sorted(file.name for file in (tmp_path / "my-shop").iterdir())
    assert made == [".gitignore", "README.md", "app.py", "pyproject.toml", "test_app.py"]
    assert tomllib.loads((tmp_path / "my-shop/pyproject.toml").read_text())["project"]["name"] == "my-shop"
    checked = perdure("check", "app.py", cwd=tmp_path / "my-shop")
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "no leaks in the code\n", "")


@pytest.mark.parametrize("name", ["taken", "taken/file", "no spaces", "", "emoji-\N{SNOWMAN}"])
def test_init_overwrites_nothing_and_refuses_in_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").write_text("mine")
    done = perdure("init", name, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("perdure: ")
    assert done.stderr.count("\n") == 1
    assert [file.name for file in tmp_path.rglob("*")] == ["taken", "file"]
    assert (tmp_path / "taken/file").read_text() == "mine"


def test_check_exits_with_1_and_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import time\nfrom perdure import workflow\n\n\n@workflow.defn\nasync def w() -> float:\n    return "
        "time.time()\n"
    )
    done = perdure("check", "app.py", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (
        1,
        "app.py:7: time.time() reads the clock: use workflow.now()\n",
    )
    assert '"line": 7' in perdure("check", "app.py", "-o", "json", cwd=tmp_path).stdout


def test_templates_are_in_the_wheel() -> None:
    config = tomllib.loads((HOUSE / "pyproject.toml").read_text())
    assert "platform/perdure" in config["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert list((HOUSE / "platform/perdure/cli/templates").glob("*.template"))
