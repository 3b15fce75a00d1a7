"""Help that fits a narrow terminal, and arguments that begin with a minus.

Help is plain text. Rich's tables cut the names of options and what they take to fit a column, and
parse `[otel]` as markup.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar, cast

import typer
from typer.core import TyperCommand, TyperGroup

from perdure.cli.output import Format, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable

Function = TypeVar("Function", bound="Callable[..., Any]")

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
            if (name := _given_in_file(error)) is not None:
                from perdure.cli.options.configuration import FILE

                error.message += f"; it is in {ctx.params.get('config') or FILE}"
                error.param_hint = f"'{name}'"  # without its variable, which has no value
            raise

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The part of the help that lists the commands."""
        rows = [
            (name, self.commands[name].get_short_help_str(limit=1_000)) for name in self.list_commands(ctx)
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class UntilStopped(TyperCommand):
    """A command that runs until it is stopped, and writes a log."""


class OneShot(TyperCommand):
    """A command that does one thing and ends. Every such command takes `--json`."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.params.append(_json_option())

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line.

        Raises:
            typer's usage error: it is wrong.
        """
        rest = super().parse_args(ctx, args)
        is_wanted = ctx.params.pop("json", False)
        if "output" in ctx.params:
            if is_wanted:
                ctx.params["output"] = Format.JSON
            is_wanted = ctx.params["output"] is Format.JSON
        Wanted.json = is_wanted
        return rest


class TakesNumbers(OneShot):
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


def _json_option() -> Any:
    """The option `--json`, made by typer from a command of its own: it cannot be made otherwise."""

    def command(
        *,
        json: Annotated[
            bool, typer.Option("--json", help="Print one JSON document, also for an error.")
        ] = False,
    ) -> None: ...

    alone = typer.Typer(add_completion=False)
    alone.command()(command)
    return next(each for each in typer.main.get_command(alone).params if each.name == "json")


def _given_in_file(error: Any) -> str | None:
    """The name of the wrong option, if its value is from `perdure.toml`."""
    context, option = error.ctx, error.param
    if context is None or option is None or not option.opts:
        return None
    source = context.get_parameter_source(option.name)
    return option.opts[0] if source is not None and source.name == "DEFAULT_MAP" else None


def plain(message: str) -> str:
    """A message of pydantic about a value, in our style: "must be a whole number"."""
    message = message.removeprefix("Value error, ").replace("Input should be ", "must be ")
    return re.sub(r"must be a valid integer(, unable to .*)?$", "must be a whole number", message)


class Group(typer.Typer):
    """A group of commands, which are `OneShot` if they do not say otherwise."""

    def command(
        self, name: str | None = None, *, cls: type[TyperCommand] | None = None, **more: Any
    ) -> Callable[[Function], Function]:
        """Register a command, as `typer.Typer.command`."""
        return super().command(name, cls=cls or OneShot, **more)


def group(summary: str) -> Group:
    """A group of commands with this summary."""
    return Group(
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
