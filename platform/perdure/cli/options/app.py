"""The argument APP; and the option `--app`, whose codec, interceptors and store a command uses."""

from __future__ import annotations

import os
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from perdure.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Generator

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


CodecEndpointOption = Annotated[
    str,
    typer.Option(
        "--codec-endpoint",
        envvar="PERDURE_CODEC_ENDPOINT",
        help="Address of a `perdure codec serve` that decodes what is recorded, with PERDURE_CODEC_TOKEN.",
        metavar="URL",
    ),
]
CODEC_TOKEN = "PERDURE_CODEC_TOKEN"  # noqa: S105 - where it is, not what it is
"""Not PERDURE_TOKEN: the endpoint may be somebody else's server."""


@contextmanager
def reading(target: str, endpoint: str) -> Generator[Readable]:
    """Decodes what the codec of an app has encoded; at the end, says on standard error why some
    values are still encoded.

    Args:
        target: the app; empty: none.
        endpoint: the address of a codec endpoint, which is asked in place of the app; empty: none.

    Raises:
        UsageError: the app or the address is not understood.
    """
    if not endpoint:
        yield readable(target)
        return
    if find_spec("httpx") is None:
        raise UsageError("--codec-endpoint needs the module httpx: pip install 'perdure[http]'")
    from perdure.adapters.http.codec_endpoint import CodecEndpoint, RemoteReadable

    made = RemoteReadable(CodecEndpoint(endpoint, os.environ.get(CODEC_TOKEN, "")))
    yield made
    for reason, count in made.reasons.items():
        typer.echo(
            f"perdure: {count} {'value is' if count == 1 else 'values are'} not decoded: {reason}", err=True
        )


def readable(target: str) -> Readable:
    """Decodes what the codec of an app has encoded."""
    from perdure.codec.payloads import JsonPayloads
    from perdure.codec.readable import Readable

    return Readable(JsonPayloads.of(app_named(target)))
