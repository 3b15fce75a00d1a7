"""`perdure projector`: states and events from Kafka into PostgreSQL."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from perdure.cli.kafka_options import KafkaOption, NamespaceOption, OwnerOption, SessionOption, SettingOption
from perdure.cli.observing import LogFormat, LogFormatOption, MetricsHostOption, MetricsPortOption, say
from perdure.cli.postgres_options import AppArgument, PostgresOption

if TYPE_CHECKING:
    from types import FrameType


def projector(
    kafka: KafkaOption,
    namespace: NamespaceOption,
    postgres: PostgresOption,
    app: AppArgument = "",
    settings: SettingOption = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Read everything anew beside the tables that are read, swap them, and end.")
    ] = False,
    retention: Annotated[
        str,
        typer.Option(
            help='Delete workflows from the tables so long after they have closed: "90 days". The topics keep theirs.',
            envvar="PERDURE_RETENTION",
        ),
    ] = "",
    owner: OwnerOption = "",
    session_timeout_ms: SessionOption = 6_000,
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHostOption = "127.0.0.1",
    log_format: LogFormatOption = LogFormat.CONSOLE,
) -> None:
    """Keep the tables of a namespace in PostgreSQL: workflows, events and, with an app, an SQL view for each workflow type."""
    from perdure.cli.kafka_options import place, see_owner
    from perdure.cli.observing import Observing
    from perdure.cli.postgres_options import database_of, shapes_of_app
    from perdure.model.duration import microseconds

    where, database = place(kafka, namespace, settings), database_of(postgres, namespace)
    see_owner(where, owner)
    retention_s = microseconds(retention) / 1e6 if retention else None
    from perdure.distributed.projecting import Projecting
    from perdure.observability.observed import Observed

    observing = Observing(metrics_port, metrics_host, log_format)
    observing.begin()
    projecting = Projecting(
        where,
        database,
        shapes_of_app(app),
        observing.report("perdure.projector"),
        retention_s=retention_s,
        is_rebuild=rebuild,
        session_timeout_ms=session_timeout_ms,
    )
    metrics = observing.server(Observed(projector=projecting.progress))

    def stop(number: int) -> None:
        say(f"stopping ({signal.Signals(number).name})")
        projecting.request_stop()

    def handle(number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C does not wait
        threading.Thread(target=stop, args=(number,), name="perdure-stop").start()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    if metrics:
        metrics.start()
    try:
        projecting.run_forever(lambda: typer.echo(f"projecting {namespace} into {database.shown}, schema {database.schema}"))
    finally:
        if metrics:
            metrics.stop()
