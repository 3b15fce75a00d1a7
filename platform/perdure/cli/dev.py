"""`perdure dev`: the whole platform in one process, on one file."""

from __future__ import annotations

from typing import Annotated

import typer

from perdure.cli.observing import LogFormat, LogFormatOption, MetricsHostOption, MetricsPortOption

DEFAULT_DB = "sqlite:///perdure.db"

DatabaseOption = Annotated[
    str, typer.Option("--db", envvar="PERDURE_URL", help="The database: sqlite:///file, or just the file.", metavar="URL")
]


def database_url(db: str) -> str:
    """The URL of what was given as `--db`: itself, or that of a file."""
    return db if "://" in db else f"sqlite:///{db}"


def dev(
    app: Annotated[str, typer.Argument(help="The file (app.py) or module (shop.app) that defines the workflows.", metavar="APP")],
    db: DatabaseOption = DEFAULT_DB,
    host: Annotated[str, typer.Option(help="Where the app's own web app listens, if it has one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The same; 0 for any free port.", min=0, max=65535)] = 8000,
    reload: Annotated[bool, typer.Option(help="Start again when the app's files change.")] = True,
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHostOption = "127.0.0.1",
    log_format: LogFormatOption = LogFormat.CONSOLE,
) -> None:
    """Serve an app: engine and worker in one process, on one file; started again when you save.

    An attribute `web` of the app, an ASGI application, is served too.
    """
    from perdure.cli.observing import Observing
    from perdure.cli.serving import Served, serve

    serve(Served(app, database_url(db), host, port, reload, Observing(metrics_port, metrics_host, log_format)))
