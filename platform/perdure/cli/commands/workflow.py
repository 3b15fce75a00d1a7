"""`perdure workflow …`: talk to a running `perdure dev` from another terminal, and read what it has
recorded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from perdure.cli.contract import ExitCode
from perdure.cli.options.app import AppOption, CodecEndpointOption, reading
from perdure.cli.options.database import DEFAULT_DB, database_url
from perdure.cli.options.times import duration_of, moment_of
from perdure.cli.output import Format, FormatOption, Wanted, print_json, say
from perdure.cli.tree import TakesNumbers, group

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from perdure.client import Client, Description, Handle
    from perdure.model.states import WorkflowState

T = TypeVar("T")

commands = group("Start, signal, query, cancel and read workflows.")

DatabaseOption = Annotated[
    str,
    typer.Option(
        "--db",
        envvar="PERDURE_URL",
        help="Platform: sqlite:///file, or just the file; kafka://broker/namespace; https://host, with "
        "PERDURE_TOKEN.",
        metavar="URL",
    ),
]
IdArgument = Annotated[str, typer.Argument(help="The workflow's id.", metavar="ID")]
ValuesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        help="Arguments, each JSON; anything that does not look like JSON is text.", metavar="VALUE"
    ),
]
_IF_RUNNING: Final = ("refuse", "attach", "terminate")
_IF_CLOSED: Final = ("start", "refuse", "after_failure")
_STATUSES: Final = (
    "running",
    "suspended",
    "paused",
    "completed",
    "failed",
    "cancelled",
    "terminated",
    "timed_out",
)
_TEXT_WANTED: Final = re.compile(r"expected str, got (?:int|float|bool|null)\b")
ReasonOption = Annotated[str, typer.Option(help="Reason, recorded in the history.")]
ByOption = Annotated[
    str, typer.Option(help="Who asks, recorded in the history; by default the user of this process.")
]


@commands.command(cls=TakesNumbers)
def start(
    id: Annotated[str, typer.Argument(help="Id of the new workflow, chosen by you.", metavar="ID")],
    type: Annotated[str, typer.Argument(help="Workflow type, as listed by `perdure dev`.", metavar="TYPE")],
    values: ValuesArgument = None,
    if_running: Annotated[
        str,
        typer.Option(
            help="If a run with this id is open: refuse, attach or terminate.",
            autocompletion=lambda: list(_IF_RUNNING),
        ),
    ] = "refuse",
    if_closed: Annotated[
        str,
        typer.Option(
            help="If a run with this id has closed: start, refuse or after_failure.",
            autocompletion=lambda: list(_IF_CLOSED),
        ),
    ] = "start",
    delay: Annotated[str, typer.Option(help='Delay before the run begins: "30s", "2 days".')] = "",
    start_at: Annotated[
        str, typer.Option(help='When the run begins: "2026-12-24T18:00:00+01:00", or with Z for UTC.')
    ] = "",
    timeout: Annotated[str, typer.Option(help="Timeout of the whole run.")] = "",
    memo: Annotated[
        list[str] | None,
        typer.Option(
            help="Fact that the run keeps, NAME=VALUE; the value is JSON or text. May be repeated.",
            metavar="NAME=VALUE",
        ),
    ] = None,
    db: DatabaseOption = DEFAULT_DB,
    app: AppOption = "",
    output: FormatOption = Format.TABLE,
) -> None:
    """Start a workflow; returns when that is durable."""
    _one_of("--if-running", if_running, _IF_RUNNING)
    _one_of("--if-closed", if_closed, _IF_CLOSED)
    options: Any = {
        "if_running": if_running,
        "if_closed": if_closed,
        "delay": duration_of(delay, "--delay"),
        "start_at": moment_of(start_at, "--start-at"),
        "timeout": duration_of(timeout, "--timeout"),
        "memo": _pairs(memo, "--memo"),
    }
    arguments = values_of(values)
    handle = ask(db, app, lambda client: client.options(**options).start_by_name(id, type, arguments))
    if output is Format.JSON:
        print_json({"workflow_id": id, "run_id": handle.run_id})
    else:
        typer.echo(f"started {id}, run {handle.run_id}")


@commands.command("list")
def list_(
    type: Annotated[list[str] | None, typer.Option(help="Workflow type; may be repeated.")] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(
            help="running, suspended, paused, completed, failed, cancelled, terminated or timed_out; may be "
            "repeated.",
            autocompletion=lambda: list(_STATUSES),
        ),
    ] = None,
    prefix: Annotated[str, typer.Option(help="Prefix of the workflow id.")] = "",
    attribute: Annotated[
        list[str] | None,
        typer.Option(
            help="Attribute NAME=VALUE; the value is JSON or text. May be repeated.", metavar="NAME=VALUE"
        ),
    ] = None,
    where: Annotated[
        str,
        typer.Option(
            help="Condition on attributes: \"cents < 500 and city in ('Bari', 'Rome')\". Operators: =, !=, "
            "<, <=, >, >=, in, starts with, and, or, not.",
            metavar="CONDITION",
        ),
    ] = "",
    sort: Annotated[
        str,
        typer.Option(
            help="Sort key: started_at, updated_at, closed_at or workflow_id.",
            autocompletion=lambda: ["started_at", "updated_at", "closed_at", "workflow_id"],
        ),
    ] = "started_at",
    order: Annotated[
        str,
        typer.Option(help="newest (greatest first), or oldest.", autocompletion=lambda: ["newest", "oldest"]),
    ] = "newest",
    limit: Annotated[int, typer.Option(min=1, help="Maximum number to show.")] = 100,
    db: DatabaseOption = DEFAULT_DB,
    app: AppOption = "",
    codec_endpoint: CodecEndpointOption = "",
    output: FormatOption = Format.TABLE,
) -> None:
    """List workflows by their last run, newest first."""
    from msgspec.structs import replace

    from perdure.cli.rendering import print_states
    from perdure.client.listing import PAGE_LIMIT, ListQuery

    for each in status or ():
        _one_of("--status", each, _STATUSES)
    by: Any = {"sort": sort, "order": order, "where": where}  # checked by the query
    query = ListQuery.of(
        type=type, status=status, id_prefix=prefix, attributes=_pairs(attribute, "--attribute"), **by
    )

    async def read(client: Client) -> list[WorkflowState]:
        found: list[WorkflowState] = []
        while len(found) < limit:
            size = min(limit - len(found), PAGE_LIMIT)
            page = await client.list(
                replace(query, limit=size, after=query.key_of(found[-1]) if found else None)
            )
            found += page
            if len(page) < size:
                break
        return found

    with reading(app, codec_endpoint) as readable:
        print_states(readable.structs(ask(db, app, read)), output)


@commands.command()
def versions(
    app: Annotated[
        str,
        typer.Argument(
            help="The app (app.py, shop.app): also says which of its versions may be deleted.", metavar="APP"
        ),
    ] = "",
    db: DatabaseOption = DEFAULT_DB,
    output: FormatOption = Format.TABLE,
) -> None:
    """Count open runs by version of their type."""
    from perdure.cli.versions import count_versions, print_versions

    served = None
    if app:
        from perdure.cli.loading import load_and_register

        served = load_and_register(app)[1].workflows
    found = ask(db, "", lambda client: count_versions(client, served))
    print_versions(found, output)
    if missing := [each for each in found if each.is_missing]:
        first = missing[0]
        typer.echo(
            f"perdure: the app has no version {first.version} of {first.type}, which has open runs", err=True
        )
        raise typer.Exit(ExitCode.FAILED)


@commands.command()
def show(
    id: IdArgument,
    db: DatabaseOption = DEFAULT_DB,
    app: AppOption = "",
    codec_endpoint: CodecEndpointOption = "",
    output: FormatOption = Format.TABLE,
) -> None:
    """Show what a workflow is doing, or how it ended."""
    from perdure.cli.rendering import print_description

    async def read(client: Client) -> tuple[Description, WorkflowState]:
        return await client.describe(id), await client.state(id)

    description, state = ask(db, app, read)
    with reading(app, codec_endpoint) as readable:
        print_description(description, readable.struct(state), output)


@commands.command()
def history(
    id: IdArgument,
    run: Annotated[str, typer.Option(help="The run's id; the last run by default.")] = "",
    db: DatabaseOption = DEFAULT_DB,
    app: AppOption = "",
    codec_endpoint: CodecEndpointOption = "",
    output: FormatOption = Format.TABLE,
) -> None:
    """Show what has happened to a workflow; with -o json loss-free, for `perdure check
    --histories`. With an app or a codec endpoint, what a codec has encoded is decoded.
    """
    from perdure.cli.rendering import print_history

    records = ask(db, app, lambda client: client.history(id, run))
    with reading(app, codec_endpoint) as readable:
        print_history(readable.records(records), output)


@commands.command(cls=TakesNumbers)
def signal(
    id: IdArgument,
    name: Annotated[str, typer.Argument(help="The signal's name.", metavar="NAME")],
    values: ValuesArgument = None,
    db: DatabaseOption = DEFAULT_DB,
    app: AppOption = "",
) -> None:
    """Send a signal; returns when it is durable."""
    arguments = values_of(values)
    ask_of(db, app, id, lambda handle: handle.signal_by_name(name, arguments))
    say({"workflow_id": id, "signal": name}, f"{id}: signalled {name}")


@commands.command(cls=TakesNumbers)
def update(
    id: IdArgument,
    name: Annotated[str, typer.Argument(help="The update's name.", metavar="NAME")],
    values: ValuesArgument = None,
    db: DatabaseOption = DEFAULT_DB,
    app: AppOption = "",
) -> None:
    """Send an update, and print its answer."""
    arguments = values_of(values)
    print_json(ask_of(db, app, id, lambda handle: handle.update_by_name(name, arguments)))


@commands.command(cls=TakesNumbers)
def query(
    id: IdArgument,
    name: Annotated[str, typer.Argument(help="The query's name.", metavar="NAME")],
    values: ValuesArgument = None,
    db: DatabaseOption = DEFAULT_DB,
    app: AppOption = "",
) -> None:
    """Query the live run; prints the answer as JSON."""
    arguments = values_of(values)
    print_json(ask_of(db, app, id, lambda handle: handle.query_by_name(name, arguments)))


@commands.command()
def stream(
    id: IdArgument,
    name: Annotated[str, typer.Argument(help="The stream's name.", metavar="NAME")],
    after: Annotated[int, typer.Option(min=0, help="Offset: only values after it.")] = 0,
    db: DatabaseOption = DEFAULT_DB,
    app: AppOption = "",
) -> None:
    """Print the values of a stream as JSON, one a line, until the workflow has closed; with --json
    as one array, when it has.
    """
    import msgspec

    async def read(handle: Handle[Any, Any]) -> list[object]:
        kept: list[object] = []
        async for value in handle.stream(name, object, after=after):
            if Wanted.json:
                kept.append(value)
            else:
                typer.echo(msgspec.json.encode(value))
        return kept

    found = ask_of(db, app, id, read)
    if Wanted.json:
        print_json(found)


@commands.command()
def result(
    id: IdArgument,
    timeout: Annotated[str, typer.Option(help='Maximum time to wait: "30s". Unlimited by default.')] = "",
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="If it is still open, show what it waits for and fail.")
    ] = False,
    db: DatabaseOption = DEFAULT_DB,
    app: AppOption = "",
) -> None:
    """Wait for a workflow to end; prints its result as JSON, or fails with why there is none.

    What it waits for is printed to standard error, immediately and when it changes.
    """
    from perdure.cli.awaiting import awaited
    from perdure.cli.rendering import print_failure
    from perdure.errors import WorkflowFailed
    from perdure.model.duration import microseconds

    limit = duration_of(timeout, "--timeout")
    limit_s = 0.0 if no_wait else microseconds(limit) / 1e6 if limit else None
    try:
        print_json(ask_of(db, app, id, lambda handle: awaited(handle, limit_s)))
    except WorkflowFailed as failed:
        print_failure(failed.cause)
        raise


@commands.command()
def cancel(
    id: IdArgument, reason: ReasonOption = "", db: DatabaseOption = DEFAULT_DB, app: AppOption = ""
) -> None:
    """Ask a workflow to end: its code may clean up first."""
    ask_of(db, app, id, lambda handle: handle.cancel(reason))
    say({"workflow_id": id, "requested": "cancel"}, f"{id}: cancellation requested")


@commands.command()
def terminate(
    id: IdArgument, reason: ReasonOption = "", db: DatabaseOption = DEFAULT_DB, app: AppOption = ""
) -> None:
    """End a workflow immediately; none of its code runs."""
    ask_of(db, app, id, lambda handle: handle.terminate(reason))
    say({"workflow_id": id, "requested": "terminate"}, f"{id}: terminated")


@commands.command()
def delete(
    ids: Annotated[list[str] | None, typer.Argument(help="Workflow ids.", metavar="ID")] = None,
    run: Annotated[str, typer.Option(help="Only this run of the one ID.")] = "",
    type: Annotated[list[str] | None, typer.Option(help="Workflow type; may be repeated.")] = None,
    status: Annotated[list[str] | None, typer.Option(help="Status; may be repeated.")] = None,
    where: Annotated[
        str, typer.Option(help="Condition on attributes, as of `list`.", metavar="CONDITION")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show how many there are.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    reason: Annotated[str, typer.Option(help="Reason, for the audit log.")] = "",
    db: DatabaseOption = DEFAULT_DB,
    app: AppOption = "",
) -> None:
    """Remove closed workflows with all their records: some by id, or all that match. Open ones are
    left alone.
    """
    from perdure.cli.deleting import Selection
    from perdure.model.states import Status

    for each in status or ():
        _one_of("--status", each, tuple(Status))
    selection = Selection(tuple(ids or ()), run, tuple(type or ()), tuple(status or ()), where)
    selection.check()
    deletion = ask(db, app, selection.found)
    is_done = dry_run or not deletion.closed
    say(deletion.document() if is_done else None, deletion.in_words())
    if is_done:
        return
    if not yes:
        typer.confirm(f"Delete {len(deletion.closed)} for ever?", abort=True, err=True)
    deleted = ask(db, app, lambda client: deletion.run(client, reason))
    say({**deletion.document(), "deleted": deleted}, f"{deleted} deleted")


@commands.command()
def pause(
    id: IdArgument,
    reason: ReasonOption = "",
    by: ByOption = "",
    db: DatabaseOption = DEFAULT_DB,
    app: AppOption = "",
) -> None:
    """Stop running the code of a workflow; what arrives is recorded, timers hold."""
    ask_of(db, app, id, lambda handle: handle.pause(reason, by=by or user()))
    say({"workflow_id": id, "requested": "pause"}, f"{id}: paused")


@commands.command()
def unpause(
    id: IdArgument,
    reason: ReasonOption = "",
    by: ByOption = "",
    db: DatabaseOption = DEFAULT_DB,
    app: AppOption = "",
) -> None:
    """Let a paused workflow continue, and retry the activities that have paused it."""
    ask_of(db, app, id, lambda handle: handle.unpause(reason, by=by or user()))
    say({"workflow_id": id, "requested": "unpause"}, f"{id}: continues")


def user() -> str:
    """The name of the user of this process; empty: it has none."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number that has no name
        return ""


def ask(db: str, app: str, question: Callable[[Client], Awaitable[T]]) -> T:
    """Connect, call a function with the client, close, and return the result.

    Args:
        db: of `--db`.
        app: of `--app`.
        question: to ask.

    Raises:
        ClientError, InfrastructureError, UsageError: see `Client`.
    """
    import asyncio

    from perdure.cli.options.app import app_named
    from perdure.client import Client
    from perdure.errors import RequestRefused

    said = app_named(app)

    async def ask() -> T:
        async with Client.connect(database_url(db), app=said) as client:
            return await question(client)

    try:
        return asyncio.run(ask())
    except RequestRefused as error:
        if not _TEXT_WANTED.search(str(error)):
            raise
        raise RequestRefused(
            f"{error}; a text that looks like JSON needs two pairs of quotes: '\"17\"'"
        ) from None


def ask_of(db: str, app: str, id: str, question: Callable[[Handle[Any, Any]], Awaitable[T]]) -> T:
    """As `ask`, with the handle of a workflow."""
    return ask(db, app, lambda client: question(client.get_by_name(id)))


def values_of(texts: list[str] | None) -> list[object]:
    """Arguments from the command line: JSON; anything that does not look like JSON is text."""
    import msgspec

    values: list[object] = []
    for text in texts or ():
        try:
            values.append(msgspec.json.decode(text))
        except UnicodeEncodeError:
            raise typer.BadParameter(f"{text!r:.80} is not UTF-8 text") from None
        except RecursionError:
            raise typer.BadParameter(f"{text!r:.80} is nested too deeply") from None
        except msgspec.DecodeError as error:
            if text[:1] in ('"', "[", "{"):
                raise typer.BadParameter(f"{text!r:.200} looks like JSON but is invalid: {error}") from error
            values.append(text)
    return values


def _pairs(texts: list[str] | None, option: str) -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
        (pairs[name],) = values_of([value])
    return pairs


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise typer.BadParameter(
            f"invalid value {value!r}: must be one of {', '.join(allowed)}", param_hint=option
        )
