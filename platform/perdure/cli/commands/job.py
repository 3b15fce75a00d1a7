"""`perdure job …`: activities without a workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from perdure.cli.commands.workflow import DatabaseOption, ValuesArgument, ask, values_of
from perdure.cli.options.app import AppOption
from perdure.cli.options.database import DEFAULT_DB
from perdure.cli.options.times import duration_of, moment_of
from perdure.cli.output import Format, FormatOption, print_json
from perdure.cli.tree import TakesNumbers, group

if TYPE_CHECKING:
    from perdure.activity import Activity
    from perdure.client import Client, Handle
    from perdure.model.options import ActivityOptions

commands = group("Run activities without a workflow.")

ActivityArgument = Annotated[
    str,
    typer.Argument(
        help="The activity: app.py:charge or shop.app:charge; or just its name, then with default options.",
        metavar="ACTIVITY",
    ),
]
IdOption = Annotated[
    str, typer.Option("--id", help="Id of the job: it is run once. By default it gets one of its own.")
]
DelayOption = Annotated[str, typer.Option(help='Delay before it begins: "30s", "2 days".')]
StartOption = Annotated[
    str, typer.Option(help='When it begins: "2026-12-24T18:00:00+01:00", or with Z for UTC.')
]
QueueOption = Annotated[str, typer.Option(help="Queue of the workers that run it.")]


@commands.command(cls=TakesNumbers)
def run(
    activity: ActivityArgument,
    values: ValuesArgument = None,
    id: IdOption = "",
    delay: DelayOption = "",
    start_at: StartOption = "",
    queue: QueueOption = "",
    timeout: Annotated[str, typer.Option(help='Maximum time to wait: "30s". Unlimited by default.')] = "",
    db: DatabaseOption = DEFAULT_DB,
    app: AppOption = "",
) -> None:
    """Run an activity as a job, wait for its end, and print its result as JSON."""
    from perdure.cli.rendering import print_failure
    from perdure.errors import WorkflowFailed

    limit, begins = duration_of(timeout, "--timeout"), _begins(delay, start_at)

    async def asked(client: Client) -> Any:
        job = await _submitted(client.options(**begins), activity, values, id, queue=queue)
        return await job.result(limit)

    try:
        print_json(ask(db, app, asked))
    except WorkflowFailed as failed:
        print_failure(failed.cause)
        raise


@commands.command(cls=TakesNumbers)
def submit(
    activity: ActivityArgument,
    values: ValuesArgument = None,
    id: IdOption = "",
    delay: DelayOption = "",
    start_at: StartOption = "",
    queue: QueueOption = "",
    db: DatabaseOption = DEFAULT_DB,
    app: AppOption = "",
    output: FormatOption = Format.TABLE,
) -> None:
    """Start a job; returns when that is durable. `perdure workflow result ID` waits for its result;
    list, show, history and cancel are those of workflows.
    """
    begins = _begins(delay, start_at)

    async def asked(client: Client) -> Handle[None, Any]:
        return await _submitted(client.options(**begins), activity, values, id, queue=queue)

    job = ask(db, app, asked)
    if output is Format.JSON:
        print_json({"workflow_id": job.id, "run_id": job.run_id})
    else:
        typer.echo(f"started job {job.id}, run {job.run_id}")


def _begins(delay: str, start_at: str) -> dict[str, Any]:
    """The options of a client that say when a job begins."""
    return {"delay": duration_of(delay, "--delay"), "start_at": moment_of(start_at, "--start-at")}


async def _submitted(
    client: Client, target: str, values: list[str] | None, id: str, *, queue: str
) -> Handle[None, Any]:
    name, defaults = _found(target, values_of(values))
    if queue:
        defaults = _on_queue(defaults, queue)
    return await client.submit_by_name(name, values_of(values), id=id, options=defaults)


def _found(target: str, args: list[object]) -> tuple[str, ActivityOptions | None]:
    """The name of an activity, and its options where it can be imported; its arguments are checked
    then.

    Raises:
        UsageError: the module has no such activity, or the arguments do not fit it.
    """
    from perdure.codec.payloads import JsonPayloads
    from perdure.codec.values import to_json

    module, colon, name = target.rpartition(":")
    if not colon:
        return target, None
    activity = _activity_of(module, name)
    what = f"activity {activity.name!r}"
    JsonPayloads().decode_arguments(activity.fn, to_json(args), what=what)
    return activity.name, activity.defaults


def _activity_of(target: str, name: str) -> Activity[..., Any]:
    from perdure.activity import Activity
    from perdure.cli.loading import load
    from perdure.errors import UsageError

    module = load(target).module
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, Activity):
        raise UsageError(f"{target} has no activity {name!r}: a function that is marked with @activity.defn")
    return cast("Activity[..., Any]", found)


def _on_queue(options: ActivityOptions | None, queue: str) -> ActivityOptions:
    from msgspec.structs import replace

    from perdure.model.limits import fault_of_id
    from perdure.model.options import ActivityOptions

    options = options or ActivityOptions()
    if options.is_step:
        raise typer.BadParameter("a step runs in the engine's process: it has no queue", param_hint="--queue")
    if fault := fault_of_id(queue, "queue"):
        raise typer.BadParameter(fault, param_hint="--queue")
    return replace(options, queue=queue)
