"""Errors as one line."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from perdure.cli.printable import printable


def one_line(error: BaseException) -> str:
    """The error's message without line breaks, with paths relative to the current directory; the
    name of its class if there is no message.
    """
    return printable(from_here(" ".join(str(error).split()))) or type(error).__name__


def from_here(text: str) -> str:
    """The text with paths relative to the current directory."""
    return text.replace(f"{Path.cwd()}{os.sep}", "")


_NAMES: Final = "(if_running|if_closed|request_id|limit|after)"
_PARAMETER: Final = re.compile(rf"""(?:\b{_NAMES}=|"{_NAMES}": )(?:"([^"]*)"|'([^']*)'|(\d+))?""")
_OPTIONS: Final = re.compile(r"\boptions\(([^()]*)\)")


def as_options(message: str) -> str:
    """A message of the client or the engine, with parameters of Python and fields of JSON replaced
    by options of the command line: `--if-running attach` for `if_running="attach"`.
    """

    def option(match: re.Match[str]) -> str:
        name, *values = filter(None, match.groups())
        return " ".join([f"--{name.replace('_', '-')}", *values])

    return _PARAMETER.sub(option, _OPTIONS.sub(r"\1", message))
