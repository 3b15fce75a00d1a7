"""Many tests of the command line run it in their own process."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
import typer.main
import typer.testing

get_command = functools.cache(typer.main.get_command)


@pytest.fixture(autouse=True, scope="module")
def tree_of_commands_is_built_once() -> Iterator[None]:
    """`CliRunner` builds it for each line, which takes longer than most lines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.testing, "_get_command", get_command)
        yield
