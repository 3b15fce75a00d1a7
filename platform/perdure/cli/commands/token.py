"""`perdure token …`: answer tokens of workflows."""

from __future__ import annotations

from typing import Annotated

import typer

from perdure.cli.commands.workflow import DatabaseOption, ask, values_of
from perdure.cli.options.app import AppOption
from perdure.cli.options.database import DEFAULT_DB
from perdure.cli.output import say
from perdure.cli.tree import TakesNumbers, group

commands = group("Answer the tokens that workflows wait for.")

TextArgument = Annotated[
    str, typer.Argument(help="The token's text; - reads it from standard input.", metavar="TEXT")
]


@commands.command(cls=TakesNumbers)
def resolve(
    text: TextArgument,
    value: Annotated[
        str,
        typer.Argument(
            help="The value, JSON; anything that does not look like JSON is text.", metavar="VALUE"
        ),
    ] = "null",
    db: DatabaseOption = DEFAULT_DB,
    app: AppOption = "",
) -> None:
    """Give a token its value; returns when that is durable."""
    (found,) = values_of([value])
    given = _given(text)
    ask(db, app, lambda client: client.resolve(given, found))
    say({"token": "resolved"}, "resolved")


@commands.command()
def fail(
    text: TextArgument,
    message: Annotated[str, typer.Argument(help="Why there is no value.", metavar="MESSAGE")],
    db: DatabaseOption = DEFAULT_DB,
    app: AppOption = "",
) -> None:
    """Fail a token: the workflow's code gets errors.TokenFailed."""
    given = _given(text)
    ask(db, app, lambda client: client.fail(given, message))
    say({"token": "failed"}, "failed")


def _given(text: str) -> str:
    """The token's text. Reading it from standard input keeps it out of process lists and shell
    histories.
    """
    return typer.get_text_stream("stdin").read().strip() if text == "-" else text
