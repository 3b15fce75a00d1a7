"""The argument APP; and the option `--app`, whose codec, interceptors and store a command uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from perdure.app import App
    from perdure.codec.readable import Readable

WorkflowsArgument = Annotated[
    str,
    typer.Argument(help="The file (app.py) or module (shop.app) that defines the workflows.", metavar="APP"),
]
AppOption = Annotated[
    str,
    typer.Option(
        "--app",
        envvar="PERDURE_APP",
        help="App (file or module) whose codec and store decode what is recorded; also in perdure.toml.",
        metavar="APP",
    ),
]


def app_named(target: str) -> App:
    """The app of a target; of no target, an empty one.

    Args:
        target: a file, a module, or empty.

    Raises:
        UsageError: it does not import, or says something that does not fit.
    """
    from perdure.app import NO_APP

    if not target:
        return NO_APP
    from perdure.app import app_of
    from perdure.cli.loading import load

    return app_of(load(target).module)


def readable(target: str) -> Readable:
    """Decodes what the codec of an app has encoded."""
    from perdure.codec.payloads import JsonPayloads
    from perdure.codec.readable import Readable

    return Readable(JsonPayloads.of(app_named(target)))
