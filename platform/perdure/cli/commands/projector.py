"""`perdure projector`: states and events from Kafka into PostgreSQL."""

from __future__ import annotations

from typing import Annotated

import typer

from perdure.cli.options.kafka import KafkaOption, NamespaceOption, OwnerOption, SessionOption, SettingOption
from perdure.cli.options.metrics import (
    LogFormat,
    LogFormatOption,
    LogLevel,
    LogLevelOption,
    MetricsHostOption,
    MetricsPortOption,
)
from perdure.cli.options.postgres import AppArgument, PostgresOption
from perdure.cli.options.times import duration_of


def projector(
    kafka: KafkaOption,
    namespace: NamespaceOption,
    postgres: PostgresOption,
    app: AppArgument = "",
    settings: SettingOption = None,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Rebuild all tables beside the current ones, swap them, and exit."),
    ] = False,
    retention: Annotated[
        str,
        typer.Option(
            help='Delete workflows from the tables this long after they closed: "90 days". Topics are not '
            "affected.",
            envvar="PERDURE_RETENTION",
        ),
    ] = "",
    owner: OwnerOption = "",
    session_timeout_ms: SessionOption = 6_000,
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHostOption = "127.0.0.1",
    log_format: LogFormatOption = LogFormat.CONSOLE,
    log_level: LogLevelOption = LogLevel.INFO,
) -> None:
    """Keep the tables of a namespace in PostgreSQL: workflows, events and, with an app, an SQL view
    for each workflow type.
    """
    from perdure.cli.lifecycle.signals import LostThread, stop_on_signal
    from perdure.cli.options.kafka import place, see_owner
    from perdure.cli.options.metrics import Observing
    from perdure.cli.options.postgres import database_of, shapes_of_app
    from perdure.model.duration import microseconds

    where, database = place(kafka, namespace, settings), database_of(postgres, namespace)
    see_owner(where, owner)
    kept = duration_of(retention, "--retention")
    retention_s = microseconds(kept) / 1e6 if kept else None
    from perdure.distributed.projecting import ProjectorService
    from perdure.observability.observed import Observed

    observing = Observing(metrics_port, metrics_host, log_format, log_level)
    observing.begin()
    projecting = ProjectorService(
        where,
        database,
        shapes_of_app(app),
        observing.report("perdure.projector"),
        retention_s=retention_s,
        is_rebuild=rebuild,
        session_timeout_ms=session_timeout_ms,
    )
    metrics = observing.server(Observed(projector=projecting.progress))

    stop_on_signal(projecting.request_stop)
    lost = LostThread(projecting.request_stop)
    if metrics:
        metrics.start()
    try:
        projecting.run_forever(
            lambda: typer.echo(f"projecting {namespace} into {database.shown}, schema {database.schema}")
        )
        lost.check()
    finally:
        if metrics:
            metrics.stop()
