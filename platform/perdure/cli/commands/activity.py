"""`perdure activity …`: retry, complete or fail an open activity of a workflow."""

from __future__ import annotations

from typing import Annotated

import typer

from perdure.cli.commands.workflow import (
    ByOption,
    DatabaseOption,
    IdArgument,
    ReasonOption,
    ask_of,
    user,
    values_of,
)
from perdure.cli.options.app import AppOption
from perdure.cli.options.database import DEFAULT_DB
from perdure.cli.output import say
from perdure.cli.tree import TakesNumbers, group

commands = group("Retry, complete or fail activities of workflows; `workflow show` has their numbers.")

NumberArgument = Annotated[int, typer.Argument(min=1, help="The activity's number.", metavar="NUMBER")]


@commands.command()
def retry(
    id: IdArgument,
    number: NumberArgument,
    reason: ReasonOption = "",
    by: ByOption = "",
    timeout: Annotated[str, typer.Option(help='Of each attempt from now on: "30s".')] = "",
    maximum_attempts: Annotated[int, typer.Option(min=0, help="From now on; 0: as before.")] = 0,
    queue: Annotated[str, typer.Option(help="Of its tasks from now on.")] = "",
    db: DatabaseOption = DEFAULT_DB,
    app: AppOption = "",
) -> None:
    """Try an activity again now; a workflow that it has paused continues."""
    ask_of(
        db,
        app,
        id,
        lambda handle: handle.activity(number).retry(
            reason,
            by=by or user(),
            timeout=timeout or None,
            maximum_attempts=maximum_attempts or None,
            queue=queue or None,
        ),
    )
    say(
        {"workflow_id": id, "activity": number, "requested": "retry"},
        f"{id}: activity {number} is tried again",
    )


@commands.command(cls=TakesNumbers)
def complete(
    id: IdArgument,
    number: NumberArgument,
    value: Annotated[
        str,
        typer.Argument(
            help="The result, JSON; anything that does not look like JSON is text.", metavar="VALUE"
        ),
    ] = "null",
    reason: ReasonOption = "",
    by: ByOption = "",
    db: DatabaseOption = DEFAULT_DB,
    app: AppOption = "",
) -> None:
    """Give an activity its result, in place of its function."""
    (found,) = values_of([value])
    ask_of(
        db, app, id, lambda handle: handle.activity(number).complete(found, reason=reason, by=by or user())
    )
    say(
        {"workflow_id": id, "activity": number, "requested": "complete"},
        f"{id}: activity {number} is completed",
    )


@commands.command()
def fail(
    id: IdArgument,
    number: NumberArgument,
    message: Annotated[
        str, typer.Argument(help="The message of the exception that the code gets.", metavar="MESSAGE")
    ],
    reason: ReasonOption = "",
    by: ByOption = "",
    db: DatabaseOption = DEFAULT_DB,
    app: AppOption = "",
) -> None:
    """Let an activity fail: the workflow's code gets errors.ActivityFailed."""
    ask_of(db, app, id, lambda handle: handle.activity(number).fail(message, reason=reason, by=by or user()))
    _say(id, number, "fail", "has failed")


def _say(id: str, number: int, requested: str, what: str) -> None:
    say(
        {"workflow_id": id, "activity": number, "requested": requested},
        f"{id}: activity {number} {what}",
    )
