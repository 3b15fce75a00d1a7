"""Messages about parameters of Python name options on the command line, and fields over HTTP."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from perdure.api.problems import as_fields, of_refusal
from perdure.cli.app import app
from perdure.cli.error_line import as_options
from perdure.model.replies import Refused


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ('use if_running="attach" to attach to it', "use --if-running attach to attach to it"),
        ('use options(if_running="attach")', "use --if-running attach"),
        ("invalid if_closed='no': must be one of", "invalid --if-closed no: must be one of"),
        ('requires "if_running": "attach": the signal', "requires --if-running attach: the signal"),
        ("limit=5000 is too much; pass after=", "--limit 5000 is too much; pass --after"),
        ("hereafter: nothing, after: nothing, x_limit=3", "hereafter: nothing, after: nothing, x_limit=3"),
    ],
)
def test_parameters_are_options_on_the_command_line(said: str, shown: str) -> None:
    assert as_options(said) == shown


def test_parameters_are_fields_over_http() -> None:
    refused = Refused("r", "already_started", 'is already running; use if_running="attach" to attach')
    assert of_refusal(refused).detail == 'is already running; use "if_running": "attach" to attach'
    assert as_fields('x="if_running"') == 'x="if_running"'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["dev", "app.py", "--log-level", "loud"], "'--log-level'.*: 'loud' is not one of 'debug', 'info'"),
        (["dev", "app.py", "--port", "abc"], "'--port': must be a whole number$"),
        (["dev", "app.py", "--port", "70000"], "'--port': must be less than or equal to 65535$"),
        (["workflow", "list", "--limit", "x"], "'--limit': must be a whole number$"),
    ],
)
def test_a_bad_value_is_refused_in_our_words(line: list[str], said: str) -> None:
    done = CliRunner().invoke(app, line, prog_name="perdure", env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert re.search(f"Error: Invalid value for {said}", done.output.strip()), done.output
