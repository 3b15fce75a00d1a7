"""Output of commands: tables for people, JSON for programs."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from perdure.cli.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PIPE_WIDTH = 250


class Format(StrEnum):
    """Output format of a command."""

    TABLE = "table"
    JSON = "json"


class Wanted:
    """Whether the command that runs prints JSON. One command runs in a process.

    Attributes:
        json: it does.
    """

    json = False


FormatOption = Annotated[Format, typer.Option("--output", "-o", help="Output format: table or JSON.")]


def say(document: Any, *lines: str) -> None:
    """Print what a command has done: the document with `--json`, else lines for people.

    Args:
        document: for programs; None: these lines are part of what a later document says.
        lines: for people.
    """
    if Wanted.json:
        if document is not None:
            print_json(document)
    else:
        for line in lines:
            typer.echo(line)


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under a heading; cut to the terminal's width when there is one."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print one name and value per line, without empty values; the further lines of a value stand
    below its first one.
    """
    shown = [(name, value) for name, value in facts if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        first, *others = value.split("\n")
        typer.echo(f"{typer.style(name.ljust(width), bold=True)}  {printable(first)}")
        for line in others:
            typer.echo(f"{'':{width}}  {printable(line)}".rstrip())


def local_time(at_us: int) -> str:
    """Microseconds since 1970 as the local time of day; empty for 0."""
    return (
        f"{datetime.fromtimestamp(_shown(at_us) / 1e6, UTC).astimezone():%Y-%m-%d %H:%M:%S}" if at_us else ""
    )


def utc_time(at_us: int) -> str | None:
    """Microseconds since 1970 as ISO 8601 in UTC, exact; None for 0."""
    if not at_us:
        return None
    seconds, rest = divmod(_shown(at_us), 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:06}Z"


_EARLIEST_US: Final = -62_135_510_400_000_000
_LATEST_US: Final = 253_402_214_400_000_000
"""A day within the years 1 to 9999, for any time zone."""


def _shown(at_us: int) -> int:
    """A time that can be shown, cut to the range of `datetime`: a record from outside may contain
    any number.
    """
    return min(max(at_us, _EARLIEST_US), _LATEST_US)
