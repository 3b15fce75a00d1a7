"""`perdure.toml`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import typer
from typer.testing import CliRunner

from perdure.cli.app import app
from perdure.cli.options.configuration import defaults_of
from perdure.errors import UsageError

ROOT: Any = cast("Any", typer.main.get_command(app))


def read(folder: Path, text: str) -> dict[str, Any]:
    path = folder / "perdure.toml"
    path.write_text(text)
    return defaults_of(path, ROOT)


def test_what_stands_on_top_is_for_every_command(tmp_path: Path) -> None:
    found = read(tmp_path, 'kafka = "broker:9092"\nnamespace = "shop"\n')
    for command in ("engine", "worker", "dev"):
        assert found[command]["kafka"] == "broker:9092"
    assert found["topics"]["apply"]["namespace"] == "shop"


def test_a_table_is_for_its_command_and_counts_more(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        'namespace = "shop"\n[worker]\nnamespace = "other"\nconcurrency = 5\nqueue = ["a", '
        '"b"]\n[engine]\nstate-dir = "/x"\n',
    )
    assert (found["worker"]["namespace"], found["worker"]["concurrency"], found["worker"]["queue"]) == (
        "other",
        5,
        ["a", "b"],
    )
    assert (found["engine"]["namespace"], found["engine"]["state_dir"]) == ("shop", "/x")


def test_settings_are_those_of_librdkafka(tmp_path: Path) -> None:
    found = read(tmp_path, '[settings]\n"security.protocol" = "SSL"\n')
    assert found["engine"]["settings"] == ["security.protocol=SSL"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kafak = 1", "no perdure command has the option 'kafak'"),
        ("[worker]\nprocesses = 2", "`perdure worker` has no option 'processes'"),
        ("[wroker]\nconcurrency = 2", "unknown command 'wroker'"),
        ("kafka = ", "perdure.toml is not valid TOML: "),
    ],
)
def test_what_no_command_knows_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read(tmp_path, text)


def test_a_file_that_is_missing_is_refused_with_what_names_it(tmp_path: Path) -> None:
    said = r"missing.toml cannot be read \(No such file or directory\): see --config and PERDURE_CONFIG"
    with pytest.raises(UsageError, match=said):
        defaults_of(tmp_path / "missing.toml", ROOT)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[dev]\nport = 99999", "Invalid value for '--port': must be less than or equal to 65535"),
        ('log-level = "loud"', "Invalid value for '--log-level': 'loud' is not one of"),
    ],
)
def test_a_wrong_value_is_said_to_be_in_the_file(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "perdure.toml"
    path.write_text(text)
    done = CliRunner().invoke(app, ["--config", str(path), "dev", "app.py"])
    assert done.exit_code == 2
    assert told in done.output
    assert f"; it is in {path}" in done.output
