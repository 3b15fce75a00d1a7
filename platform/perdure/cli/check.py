"""`perdure check`: does the workflow code do the same again on a replay?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perdure.cli.output import Format, FormatOption, print_json

if TYPE_CHECKING:
    from perdure.cli.leaks import Leak
    from perdure.cli.loading import App


def check(
    app: Annotated[str, typer.Argument(help="The file (app.py) or module (shop.app) that defines the workflows.", metavar="APP")],
    histories: Annotated[
        Path | None,
        typer.Option(help="Replay the recorded histories in this directory (made by `perdure workflow history -o json`)."),
    ] = None,
    db: Annotated[str, typer.Option(help="Replay every run of this database: sqlite:///perdure.db.")] = "",
    output: FormatOption = Format.TABLE,
) -> None:
    """Find what would come out otherwise on a replay: read the code, and replay recorded histories under several hash seeds."""
    from perdure.cli.loading import load
    from perdure.cli.replaying import replay_histories

    loaded = load(app)
    leaks = _leaks(loaded)
    replayed = replay_histories(app, histories, db) if histories or db else None
    if output is Format.JSON:
        print_json(
            {
                "leaks": [{"file": leak.file, "line": leak.line, "message": leak.what} for leak in leaks],
                "replayed": replayed.runs if replayed else 0,
                "diverged": replayed.diverged if replayed else [],
            }
        )
    else:
        for leak in leaks:
            typer.echo(str(leak))
        if replayed:
            for message in replayed.diverged:
                typer.echo(message)
            counted = f"{replayed.runs} {'history' if replayed.runs == 1 else 'histories'}"
            typer.echo(f"{counted} replayed under {replayed.seeds} hash seeds, {len(replayed.diverged)} diverged")
        if not leaks:
            typer.echo("no leaks in the code")
    if leaks or (replayed and replayed.diverged):
        raise typer.Exit(1)


def _leaks(app: App) -> list[Leak]:
    from perdure.cli.leaks import find_leaks
    from perdure.cli.loading import shown

    files = {module.__name__: Path(module.__file__ or "") for module in app.modules()}
    return find_leaks({name: (shown(str(file)), file.read_text()) for name, file in files.items() if file.suffix == ".py"})
