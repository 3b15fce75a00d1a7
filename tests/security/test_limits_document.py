"""The table of limits says what the code does."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs/howto/limits.md"
UNITS = {"": 1, "s": 1, "KiB": 1024, "MiB": 1024 * 1024}
ROW = re.compile(
    r"^\| (?P<what>.+?) \| (?P<default>[\d,.]+) ?(?P<unit>[A-Za-z]*) \| .* \| `(?P<code>perdure\.[\w.]+)` "
    r"\|$",
    re.MULTILINE,
)
ROWS = [(found["code"], found["default"], found["unit"]) for found in ROW.finditer(DOCUMENT.read_text())]


def test_every_row_of_the_document_is_compared() -> None:
    rows = [
        line
        for line in DOCUMENT.read_text().splitlines()
        if line.startswith("| ") and not line.startswith(("| limit |", "| --"))
    ]
    assert len(rows) == len(ROWS) > 30


@pytest.mark.parametrize(("code", "default", "unit"), ROWS, ids=[row[0] for row in ROWS])
def test_a_limit_in_the_document_is_the_one_in_the_code(code: str, default: str, unit: str) -> None:
    module, _, name = code.rpartition(".")
    assert getattr(import_module(module), name) == float(default.replace(",", "")) * UNITS[unit]


def test_the_defaults_of_the_command_line_are_the_codes() -> None:
    import inspect

    from perdure.api.auth.rates import REQUESTS_PER_S
    from perdure.cli.commands.api import api
    from perdure.observability.accepting import CONNECTIONS, CONNECTIONS_PER_ADDRESS

    parameters = inspect.signature(api).parameters
    assert parameters["rate_limit"].default == REQUESTS_PER_S
    assert parameters["connections"].default == CONNECTIONS
    assert parameters["connections_per_address"].default == CONNECTIONS_PER_ADDRESS
