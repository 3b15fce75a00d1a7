"""The tree of commands."""

from __future__ import annotations

from typing import Annotated, Any, cast

import typer

from perdure.cli.commands import (
    activity,
    api,
    api_keys,
    check,
    codec,
    dead_letters,
    dev,
    echo,
    engine,
    ingest,
    init,
    job,
    migrate,
    projector,
    publish,
    schedule,
    token,
    topics,
    worker,
    workflow,
)
from perdure.cli.tree import TakesNumbers, UntilStopped, group

app = group("Durable workflows: code that survives crashes and continues where it was.")
app.command("dev", cls=UntilStopped)(dev.dev)
app.command("engine", cls=UntilStopped)(engine.engine)
app.command("worker", cls=UntilStopped)(worker.worker)
app.command("api", cls=UntilStopped)(api.api)
app.command("projector", cls=UntilStopped)(projector.projector)
app.command("ingest", cls=UntilStopped)(ingest.ingest)
app.command("publish", cls=TakesNumbers)(publish.publish)
app.command("migrate")(migrate.migrate)
app.command("init")(init.init)
app.command("check")(check.check)
app.command("echo")(echo.echo)
app.add_typer(workflow.commands, name="workflow")
app.add_typer(job.commands, name="job")
app.add_typer(schedule.commands, name="schedule")
app.add_typer(activity.commands, name="activity")
app.add_typer(token.commands, name="token")
app.add_typer(dead_letters.commands, name="dead-letters")
app.add_typer(codec.commands, name="codec")
app.add_typer(topics.commands, name="topics")
app.add_typer(api_keys.commands, name="api-keys")


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        from perdure.version import __version__

        typer.echo(f"perdure {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    config: Annotated[
        str,
        typer.Option(
            help="File of options; by default perdure.toml in this directory, if it exists.",
            metavar="FILE",
            envvar="PERDURE_CONFIG",
        ),
    ] = "",
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Durable workflows: code that survives crashes and continues where it was."""
    from pathlib import Path

    from perdure.cli.options.configuration import FILE, defaults_of

    path = Path(config or FILE)
    if config or path.exists():
        context.default_map = defaults_of(path, cast("Any", context.command))
