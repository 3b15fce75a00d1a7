"""Help that fits a narrow terminal, and arguments that begin with a minus.

Help is plain text. Rich's tables cut the names of options and what they take to fit a column, and
parse `[otel]` as markup.
"""

from __future__ import annotations

import re
from typing import Any, Final, cast

import typer
from typer.core import TyperCommand, TyperGroup

_NUMBER: Final = re.compile(r"-(\d|\.\d|Infinity$)")


class WholeSentences(TyperGroup):
    """A group of commands whose help shows the whole first sentence of each command, wrapped."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the line names.

        Raises:
            typer's usage error: the line is wrong.
        """
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = plain(error.message)
            raise

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The part of the help that lists the commands."""
        rows = [
            (name, self.commands[name].get_short_help_str(limit=1_000)) for name in self.list_commands(ctx)
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class TakesNumbers(TyperCommand):
    """A command that takes a negative number for an argument: `perdure workflow start order-1
    Refund -5`.

    An option that does not exist is refused, as everywhere, unless `--` stands before it.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line.

        Raises:
            typer's usage error: an argument looks like an option.
        """
        after_dashes = len(args) - args.index("--") - 1 if "--" in args else 0
        ctx.ignore_unknown_options = True
        rest = super().parse_args(ctx, args)
        given = [
            value
            for each in self.params
            if each.param_type_name == "argument"
            for value in _texts(ctx.params.get(each.name))
        ]
        for value in given[: len(given) - after_dashes]:
            if value.startswith("-") and value != "-" and not _NUMBER.match(value):
                ctx.fail(f"No such option: {value} (after -- everything is a value)")
        return rest


def plain(message: str) -> str:
    """A message of pydantic about a value, in our style: "must be a whole number"."""
    message = message.removeprefix("Value error, ").replace("Input should be ", "must be ")
    return re.sub(r"must be a valid integer(, unable to .*)?$", "must be a whole number", message)


def group(summary: str) -> typer.Typer:
    """A group of commands with this summary."""
    return typer.Typer(
        cls=WholeSentences,
        help=summary,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )


def _texts(value: object) -> list[str]:
    """The values of an argument as they were given: one, several or none."""
    if value is None:
        return []
    return [*map(str, cast("list[object]", value))] if isinstance(value, (list, tuple)) else [str(value)]
