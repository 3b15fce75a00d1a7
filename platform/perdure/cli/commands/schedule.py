"""`perdure schedule …`: start workflows by the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from perdure.cli.commands.workflow import DatabaseOption, ValuesArgument, ask, values_of
from perdure.cli.options.app import AppOption
from perdure.cli.options.database import DEFAULT_DB
from perdure.cli.options.times import moment_of
from perdure.cli.output import Format, FormatOption, print_facts, print_json, print_table
from perdure.cli.tree import TakesNumbers, group

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from perdure.client import ScheduleDescription, ScheduleHandle

commands = group("Start workflows by the clock.")

IdArgument = Annotated[str, typer.Argument(help="The schedule's id.", metavar="ID")]
NoteOption = Annotated[str, typer.Option(help="Note for people.")]


@commands.command(cls=TakesNumbers)
def create(
    id: IdArgument,
    type: Annotated[str, typer.Argument(help="Workflow type of the runs.", metavar="TYPE")],
    values: ValuesArgument = None,
    cron: Annotated[str, typer.Option(help='Cron expression of five fields: "0 3 * * *".')] = "",
    every: Annotated[str, typer.Option(help='Interval, in place of --cron: "1h".')] = "",
    timezone: Annotated[str, typer.Option(help="Time zone of --cron and --exclude.")] = "UTC",
    exclude: Annotated[
        list[str] | None, typer.Option(help="Day without runs, 2026-12-25. May be repeated.")
    ] = None,
    jitter: Annotated[str, typer.Option(help='Start each run up to this much later: "5m".')] = "",
    overlap: Annotated[
        str,
        typer.Option(help="If the run before has not ended: skip, queue, all, cancel or terminate."),
    ] = "skip",
    catch_up: Annotated[
        str, typer.Option(help="Start times late that passed while no engine ran, if they are not older.")
    ] = "1 hour",
    timeout: Annotated[str, typer.Option(help="Timeout of each run.")] = "",
    paused: Annotated[bool, typer.Option("--paused", help="Create it paused.")] = False,
    note: NoteOption = "",
    db: DatabaseOption = DEFAULT_DB,
    app: AppOption = "",
) -> None:
    """Create a schedule; returns when that is durable."""
    options: Any = {
        "cron": cron,
        "every": every or None,
        "timezone": timezone,
        "exclude": exclude or (),
        "jitter": jitter or None,
        "overlap": overlap,
        "catch_up": catch_up,
        "timeout": timeout or None,
        "paused": paused,
        "note": note,
    }
    arguments = values_of(values)
    ask(db, app, lambda client: client.schedule(id, type, *arguments, **options))
    typer.echo(f"created schedule {id}")


@commands.command("list")
def list_(db: DatabaseOption = DEFAULT_DB, app: AppOption = "", output: FormatOption = Format.TABLE) -> None:
    """List schedules, by id."""
    found = ask(db, app, lambda client: client.list_schedules())
    if output is Format.JSON:
        print_json([_as_json(each) for each in found])
    elif not found:
        typer.echo("no schedules")
    else:
        print_table(
            ("ID", "TYPE", "WHEN", "NEXT", "LAST RUN", "STATE"),
            [
                (
                    each.id,
                    each.state.spec.type,
                    _when(each),
                    _shown(each.coming[0]) if each.coming else "",
                    each.state.recent[-1].id if each.state.recent else "",
                    _state(each),
                )
                for each in found
            ],
        )


@commands.command()
def show(
    id: IdArgument, db: DatabaseOption = DEFAULT_DB, app: AppOption = "", output: FormatOption = Format.TABLE
) -> None:
    """Show what a schedule starts, its next times and its last runs."""
    found = ask(db, app, lambda client: client.get_schedule(id).describe())
    if output is Format.JSON:
        print_json(_as_json(found))
        return
    state = found.state
    print_facts(
        [
            ("id", found.id),
            ("type", state.spec.type),
            ("when", _when(found)),
            ("overlap", state.spec.overlap),
            ("state", _state(found)),
            ("note", state.note),
            ("running", state.running),
            ("runs", f"{state.started} started, {state.skipped} skipped, {state.missed} missed"),
            ("waiting", str(state.waiting) if state.waiting else ""),
            ("backfills", str(state.backfilling) if state.backfilling else ""),
            ("error", state.error or found.reason),
            ("next", ", ".join(map(_shown, found.coming))),
        ]
    )
    for each in state.recent:
        typer.echo(f"{each.id}: {each.outcome}")


@commands.command()
def pause(
    id: IdArgument, note: NoteOption = "", db: DatabaseOption = DEFAULT_DB, app: AppOption = ""
) -> None:
    """Start no runs at the times that come."""
    _ask_of(db, app, id, lambda schedule: schedule.pause(note))
    typer.echo(f"{id}: paused")


@commands.command()
def unpause(
    id: IdArgument, note: NoteOption = "", db: DatabaseOption = DEFAULT_DB, app: AppOption = ""
) -> None:
    """Start runs again, from the next time on."""
    _ask_of(db, app, id, lambda schedule: schedule.unpause(note))
    typer.echo(f"{id}: unpaused")


@commands.command()
def trigger(id: IdArgument, db: DatabaseOption = DEFAULT_DB, app: AppOption = "") -> None:
    """Start a run now; prints its workflow id."""
    typer.echo(_ask_of(db, app, id, lambda schedule: schedule.trigger()))


@commands.command()
def backfill(
    id: IdArgument,
    first: Annotated[str, typer.Argument(help="First moment: 2026-12-01T00:00:00Z.", metavar="FROM")],
    last: Annotated[str, typer.Argument(help="Last moment.", metavar="TO")],
    db: DatabaseOption = DEFAULT_DB,
    app: AppOption = "",
) -> None:
    """Start the runs of past times; prints their number."""
    begin = cast("datetime", moment_of(first, "FROM"))
    end = cast("datetime", moment_of(last, "TO"))
    count = _ask_of(db, app, id, lambda schedule: schedule.backfill(begin, end))
    typer.echo(f"{id}: {count} runs")


@commands.command()
def delete(id: IdArgument, db: DatabaseOption = DEFAULT_DB, app: AppOption = "") -> None:
    """End a schedule; runs that it has started continue."""
    _ask_of(db, app, id, lambda schedule: schedule.delete())
    typer.echo(f"{id}: deleted")


def _ask_of(db: str, app: str, id: str, question: Callable[[ScheduleHandle], Awaitable[Any]]) -> Any:
    return ask(db, app, lambda client: question(client.get_schedule(id)))


def _when(found: ScheduleDescription) -> str:
    from datetime import timedelta

    spec = found.state.spec
    return f"{spec.cron} {spec.timezone}" if spec.cron else f"every {timedelta(microseconds=spec.every_us)}"


def _state(found: ScheduleDescription) -> str:
    if found.is_suspended:
        return "suspended"
    if found.state.is_paused:
        return "paused"
    return "error" if found.state.error else "active"


def _shown(when: datetime) -> str:
    return f"{when.astimezone():%Y-%m-%d %H:%M:%S}"


def _as_json(found: ScheduleDescription) -> dict[str, Any]:
    from dataclasses import asdict

    return {"id": found.id, **asdict(found.state), "coming": found.coming, "reason": found.reason}
