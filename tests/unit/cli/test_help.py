"""`--help` of every command is whole on a terminal of 80 columns, and values may begin with a
minus."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from perdure.activity import Activity
from perdure.cli.app import app
from perdure.cli.lifecycle.serving import _first_command, _of_the_app
from perdure.cli.tree import TakesNumbers
from perdure.echo import Echo
from perdure.registry import Registry
from perdure.version import __version__
from perdure.workflow import defn, run

ROOT: Any = typer.main.get_command(app)


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, each in getattr(command, "commands", {}).items():
        yield from _commands(each, (*path, name))


COMMANDS = dict(_commands(ROOT))
OPTIONS = [(path, option) for path, command in COMMANDS.items() for option in command.params]


def _packed(text: str) -> str:
    return re.sub(r"\s", "", text)


@functools.cache
def _help(path: tuple[str, ...]) -> str:
    said = CliRunner().invoke(
        app, [*path, "--help"], prog_name="perdure", env={"COLUMNS": "80", "TERM": "dumb"}
    )
    assert said.exit_code == 0
    return said.output


def _name(path: tuple[str, ...]) -> str:
    return " ".join(path) or "perdure"


@pytest.mark.parametrize("path", COMMANDS, ids=_name)
def test_help_fits_80_columns_and_cuts_nothing(path: tuple[str, ...]) -> None:
    shown = _help(path)
    assert max(map(len, shown.splitlines())) <= 80
    assert _packed(inspect.cleandoc(COMMANDS[path].help).partition("Raises:")[0]) in _packed(shown)
    for name, command in getattr(COMMANDS[path], "commands", {}).items():
        first_sentence = re.split(r"\.(?:\s|$)", " ".join(command.help.split()))[0]
        assert _packed(name + first_sentence) in _packed(shown)


@pytest.mark.parametrize("path", COMMANDS, ids=_name)
def test_every_name_and_every_text_of_an_option_is_shown_whole(path: tuple[str, ...]) -> None:
    """Brackets too: `perdure[otel]` was read as markup."""
    words, shown = set(_help(path).split()), _packed(_help(path))
    for option in COMMANDS[path].params:
        names = [*option.opts, *option.secondary_opts] if option.param_type_name == "option" else []
        assert not [name for name in names if not {name, f"{name},"} & words]
        assert _packed(option.help or "") in shown
        assert option.metavar is None or option.metavar in shown
        assert not (option.metavar or "").startswith("["), "typer adds the brackets of what may be left out"


def test_a_default_is_declared_in_one_place() -> None:
    twice = [
        (path, option.name)
        for path, option in OPTIONS
        if re.search(r"\bby default\b", option.help or "")
        if option.param_type_name == "option"
        and option.show_default
        and option.default not in (None, "", (), [])
    ]
    assert not twice


@pytest.mark.parametrize(
    "command",
    ["workflow start order-1 Refund", "workflow signal order-1 add", "workflow query order-1 total"],
)
@pytest.mark.parametrize("value", ["-5", "-0.5", "-.5", "-1e3", "-Infinity"])
def test_a_negative_number_is_a_value(command: str, value: str, tmp_path: Any) -> None:
    said = CliRunner().invoke(app, [*command.split(), value, "--db", f"{tmp_path}/none.db"])
    assert "no database" in str(said.exception)


@pytest.mark.parametrize("value", ["--bogus", "-x", "--if-runing=attach"])
def test_an_option_that_does_not_exist_is_refused(value: str) -> None:
    said = CliRunner().invoke(app, ["workflow", "start", "order-1", "Refund", value])
    assert said.exit_code == 2
    assert f"No such option: {value}" in said.output


def test_after_two_dashes_everything_is_a_value(tmp_path: Any) -> None:
    said = CliRunner().invoke(
        app, ["workflow", "start", "--db", f"{tmp_path}/none.db", "order-1", "Refund", "--", "--bogus", "-x"]
    )
    assert "no database" in str(said.exception)


def test_every_command_that_takes_values_takes_negative_numbers() -> None:
    takes = {path for path, each in COMMANDS.items() if isinstance(each, TakesNumbers)}
    assert takes == {path for path, option in OPTIONS if option.metavar == "VALUE"}


def test_what_a_developer_may_try_is_a_workflow_of_the_app_and_not_ours() -> None:
    @defn
    class Greeting:
        @run
        async def greet(self, name: str) -> None: ...

    activities: list[Activity[..., Any]] = []
    registry = Registry.of([Echo, Greeting], activities)
    assert _of_the_app(registry) == ["Greeting"]
    assert (
        _first_command(registry, "kafka://broker/ns")
        == "perdure workflow start greeting-1 Greeting NAME --db kafka://broker/ns"
    )
    assert not _first_command(Registry.of([Echo], activities), "kafka://broker/ns")

    @defn
    async def by_name(*, cents: int) -> None: ...

    @defn
    async def many(name: str, *rest: int, cents: int = 0) -> None: ...

    registry = Registry.of([by_name, many], activities)
    assert (
        _first_command(registry, "kafka://broker/ns")
        == "perdure workflow start many-1 many NAME REST --db kafka://broker/ns"
    )


def test_the_version_is_that_of_the_distribution() -> None:
    assert __version__ == metadata.version("perdure")
    assert CliRunner().invoke(app, ["--version"]).output == f"perdure {__version__}\n"
