"""`perdure echo`: does all of a platform work?"""

from __future__ import annotations

from time import monotonic, time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from perdure.cli.options.app import AppOption, app_named
from perdure.cli.options.kafka import NamespaceOption, SettingOption
from perdure.cli.output import say

if TYPE_CHECKING:
    from perdure.app import App
    from perdure.client import SyncClient, SyncHandle
    from perdure.echo import Echo, EchoView

READ_S: Final = 30.0
RETRY_AFTER_S: Final = 1.0


def echo(
    api: Annotated[
        str,
        typer.Option(
            help="Platform to test: https://host, with PERDURE_TOKEN; or kafka://broker/namespace.",
            envvar="PERDURE_URL",
        ),
    ],
    namespace: NamespaceOption = "",
    kafka: Annotated[
        str, typer.Option(help="Also read its state from the topic: HOST:PORT,…", envvar="PERDURE_KAFKA")
    ] = "",
    settings: SettingOption = None,
    postgres: Annotated[
        str, typer.Option(help="Also read it from the tables: postgresql://…", envvar="PERDURE_POSTGRES")
    ] = "",
    queue: Annotated[
        list[str] | None,
        typer.Option("--queue", help="Have a worker of this task queue repeat the text; may be repeated."),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Give up after this many seconds.", min=1)] = 60.0,
    app: AppOption = "",
) -> None:
    """Start the workflow that comes with perdure, wait for its result, and read its state wherever
    it is kept.
    """
    from uuid import uuid4

    from perdure.client import SyncClient
    from perdure.errors import InfrastructureError, UsageError

    if (kafka or postgres) and not namespace:
        raise UsageError("name the namespace: --namespace, or PERDURE_NAMESPACE")
    text, queues = uuid4().hex, queue or []
    workflow_id = f"perdure-echo-{text[:8]}"
    until, begun = monotonic() + timeout, time()
    said = app_named(app)
    with SyncClient.connect(api, app=said) as client:
        handle = _started(client, workflow_id, text, queues, until)
        say(None, f"started {workflow_id} through {api}")
        if (result := handle.result()) != text:
            raise InfrastructureError(f"its result is {result!r}, not {text!r}")
        say(None, f"its result came{' by the queues ' + ', '.join(queues) if queues else ''}")
        from perdure.echo import Echo

        position = str(handle.position())
        _same(handle.view(Echo.show, after=position, within=f"{READ_S:g}s"), text, queues, api)
    if kafka:
        _same(
            _in_topic(kafka, namespace, settings, workflow_id, begun, said),
            text,
            queues,
            f"{namespace}.state",
        )
    if postgres:
        _same(
            _in_tables(postgres, namespace, workflow_id, position, said),
            text,
            queues,
            f"the tables of {namespace}",
        )
    places = {"api": True, "topic": bool(kafka), "tables": bool(postgres)}
    say({"workflow_id": workflow_id, "queues": queues, "read": places})


def _started(
    client: SyncClient, id: str, text: str, queues: list[str], until: float
) -> SyncHandle[Echo, str]:
    """Retry until the platform responds."""
    from time import sleep

    from perdure.echo import Echo
    from perdure.errors import EngineUnavailable, InfrastructureError

    careful = client.options(request_id=id, if_running="attach")
    while True:
        try:
            return careful.start(id, Echo.run, text, queues)
        except (EngineUnavailable, InfrastructureError) as error:
            if monotonic() > until:
                raise
            typer.echo(f"not yet: {error}", err=True)
            sleep(RETRY_AFTER_S)


def _in_topic(
    kafka: str, namespace: str, settings: list[str] | None, id: str, begun: float, app: App
) -> EchoView:
    from perdure.adapters.kafka.client.recent_state import recent_state
    from perdure.adapters.kafka.clients.plain import PlainClients
    from perdure.cli.options.kafka import place
    from perdure.codec.payloads import JsonPayloads
    from perdure.echo import EchoView

    where = place(kafka, namespace, settings)
    state = recent_state(PlainClients(namespace, "echo", where.settings), id, begun, READ_S)
    heard: EchoView = JsonPayloads.of(app).decode(state.view, EchoView, what="the view")
    return heard


def _in_tables(postgres: str, namespace: str, id: str, position: str, app: App) -> EchoView:
    from perdure.adapters.postgres.reader import PostgresReader
    from perdure.cli.options.postgres import database_of
    from perdure.client.position import Position
    from perdure.codec.payloads import JsonPayloads
    from perdure.echo import EchoView
    from perdure.errors import InfrastructureError

    reader = PostgresReader(database_of(postgres, namespace))
    try:
        if not reader.wait_for(Position.parse(position), READ_S):
            raise InfrastructureError(
                f"the tables of {namespace} have not reached {position} after {READ_S:g} s; is a projector "
                "running?"
            )
        state = reader.state(id)
        if state is None:
            raise InfrastructureError(
                f"the tables of {namespace} have reached {position}, but do not have {id}"
            )
        heard: EchoView = JsonPayloads.of(app).decode(state.view, EchoView, what="the view")
        return heard
    finally:
        reader.close()


def _same(heard: EchoView, text: str, queues: list[str], where: str) -> None:
    from perdure.errors import InfrastructureError

    if (heard.text, heard.queues) != (text, queues):
        raise InfrastructureError(f"{where} has {heard}, not {text!r} by {queues}")
    say(None, f"its state is right in {where}")
