"""`perdure check`: checks that workflow code behaves the same on a replay."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perdure.cli.contract import ExitCode
from perdure.cli.options.app import WorkflowsArgument
from perdure.cli.options.kafka import SettingOption
from perdure.cli.output import Format, FormatOption, print_json, print_table, say

if TYPE_CHECKING:
    from perdure.cli.loading import App
    from perdure.cli.source_checks.leaks import Leak
    from perdure.cli.upgrade_gate import OfType


def check(
    app: WorkflowsArgument,
    histories: Annotated[
        Path | None,
        typer.Option(
            help="Replay the recorded histories in this directory (made by `perdure workflow history -o "
            "json`)."
        ),
    ] = None,
    db: Annotated[str, typer.Option(help="Replay every run of this database: sqlite:///perdure.db.")] = "",
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Before an upgrade: replay only the open runs of the platform at --kafka, or at "
            "PERDURE_URL.",
        ),
    ] = False,
    kafka: Annotated[
        str,
        typer.Option(
            help="With --live: bootstrap servers, HOST:PORT,…", metavar="BOOTSTRAP", envvar="PERDURE_KAFKA"
        ),
    ] = "",
    namespace: Annotated[
        str,
        typer.Option(
            help="With --kafka: namespace (prefix of the topics' names).", envvar="PERDURE_NAMESPACE"
        ),
    ] = "",
    settings: SettingOption = None,
    limit: Annotated[
        int,
        typer.Option(
            help="With --live: maximum number of runs per type, half of them its oldest, and one more for "
            "each other place where runs wait; 0 for all.",
            min=0,
        ),
    ] = 1_000,
    allow_new: Annotated[
        bool,
        typer.Option(
            "--allow-new",
            help="With --live on Kafka: succeed if the namespace has no topics yet, or the certificate files "
            "do not exist "
            "yet, as before a first install.",
        ),
    ] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Find what would come out otherwise on a replay: read the code, and replay recorded histories
    under several hash seeds.
    """
    if live:
        if allow_new and not db and (reason := _nothing_yet(kafka, namespace, settings)):
            say([], f"{reason}: no run can be open")
            return
        _check_live(app, _address(db, kafka, namespace, settings), limit, output)
        return
    from perdure.cli.loading import load_and_check
    from perdure.cli.replaying import replay_histories

    loaded, _ = load_and_check(app, runs_activities=True)
    leaks = _leaks(loaded)
    replayed = replay_histories(app, histories, db) if histories or db else None
    if output is Format.JSON:
        print_json(
            {
                "leaks": [{"file": leak.file, "line": leak.line, "message": leak.what} for leak in leaks],
                "replayed": replayed.runs if replayed else 0,
                "diverged": replayed.diverged if replayed else [],
                "over": replayed.over if replayed else [],
            }
        )
    else:
        for leak in leaks:
            typer.echo(str(leak))
        if replayed:
            for message in replayed.diverged:
                typer.echo(message)
            for message in replayed.over:
                typer.echo(f"has failed and closed, so that nothing breaks: {message}")
            counted = f"{replayed.runs} {'history' if replayed.runs == 1 else 'histories'}"
            typer.echo(
                f"{counted} replayed under {replayed.seeds} hash seeds, {len(replayed.diverged)} diverged"
            )
        if not leaks:
            typer.echo("no leaks in the code")
    if leaks or (replayed and replayed.diverged):
        raise typer.Exit(ExitCode.FAILED)


def _address(db: str, kafka: str, namespace: str, settings: list[str] | None) -> str:
    if db:
        from perdure.cli.options.database import database_url

        return database_url(db)
    if kafka:
        from perdure.cli.options.kafka import place, url_of

        return url_of(place(kafka, namespace, settings))
    if not (url := os.environ.get("PERDURE_URL", "")):
        raise typer.BadParameter(
            "name the platform: --kafka and --namespace, --db, or PERDURE_URL", param_hint="--live"
        )
    return url


def _nothing_yet(kafka: str, namespace: str, settings: list[str] | None) -> str:
    """Why the platform has no open runs to check; empty: it may have some."""
    if not kafka:
        return ""
    from perdure.adapters.kafka.admin.admin import Topics
    from perdure.cli.options.kafka import place

    where = place(kafka, namespace, settings)
    for name in ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location"):
        path = where.settings.get(name, "")
        if path and not Path(path).exists():
            return f"{path} does not exist yet"
    return "" if Topics(namespace, where.settings).exist() else f"{namespace} has no topics yet"


def _check_live(app: str, url: str, limit: int, output: Format) -> None:
    from perdure.cli.upgrade_gate import replay_open_runs

    found = replay_open_runs(app, url, limit)
    patches = _patches(app, found)
    broken = [line for each in found for line in each.broken]
    if output is Format.JSON:
        print_json([asdict(each) for each in found])
    else:
        print_table(
            ("TYPE", "OPEN", "REPLAYED", "PLACES", "WOULD BREAK", "STAY SUSPENDED"),
            [
                (
                    each.type,
                    *map(str, (each.open, each.replayed, each.places, len(each.broken), len(each.stuck))),
                )
                for each in found
            ],
        )
        for line in patches:
            typer.echo(line)
        for line in broken:
            typer.echo(f"would break: {line}")
        for line in (line for each in found for line in each.stuck):
            typer.echo(f"stays suspended: {line}")
        typer.echo(_in_words(len(broken), sum(len(each.stuck) for each in found)))
    if broken:
        raise typer.Exit(ExitCode.FAILED)


def _patches(app: str, found: list[OfType]) -> list[str]:
    """Of each patch in the code, whether an open run needs its old branch; one line each."""
    from perdure.cli.loading import load_and_register, shown
    from perdure.cli.source_checks.patches import patches_in

    loaded, _ = load_and_register(app)
    files = {Path(module.__file__ or "") for module in loaded.modules()}
    sources = {shown(str(file)): file.read_text() for file in sorted(files) if file.suffix == ".py"}
    is_sample = any(each.replayed < each.open for each in found)
    lines: list[str] = []
    for place, patch in patches_in(sources):
        needed = sum(each.unpatched.get(patch, 0) for each in found)
        if needed:
            runs = "run takes" if needed == 1 else "runs take"
            lines.append(f"{place}: patch {patch!r}: {needed} open {runs} its old branch")
        else:
            runs = "none of the replayed runs" if is_sample else "no open run"
            lines.append(f"{place}: patch {patch!r}: {runs} needs its old branch; it may be deleted")
    return lines


def _in_words(broken: int, stuck: int) -> str:
    if broken:
        return "this code would break running workflows"
    if stuck:
        runs = "1 suspended run stays" if stuck == 1 else f"{stuck} suspended runs stay"
        return f"this code breaks no running workflow; {runs} suspended"
    return "every replayed run continues with this code"


def _leaks(app: App) -> list[Leak]:
    from perdure.cli.loading import shown
    from perdure.cli.source_checks.leaks import find_leaks

    files = {module.__name__: Path(module.__file__ or "") for module in app.modules()}
    return find_leaks(
        {name: (shown(str(file)), file.read_text()) for name, file in files.items() if file.suffix == ".py"}
    )
