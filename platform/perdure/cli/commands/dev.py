"""`perdure dev`: the whole platform in one process, on one file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from perdure.cli.options.app import WorkflowsArgument
from perdure.cli.options.database import DEFAULT_DB, DatabaseOption, database_url
from perdure.cli.options.kafka import SettingOption, StateDirOption
from perdure.cli.options.metrics import (
    LogFormat,
    LogFormatOption,
    LogLevel,
    LogLevelOption,
    MetricsHostOption,
    MetricsPortOption,
    TracesOption,
)
from perdure.cli.options.retention import RunRetentionOption, engine_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.api.backend import Backend
    from perdure.cli.options.kafka import OnKafka
    from perdure.distributed import Place
    from perdure.engine.operator_log import Report
    from perdure.engine.processor import Settings
    from perdure.ports.audit import AuditTrail
    from perdure.registry import Registry


def dev(
    context: typer.Context,
    app: WorkflowsArgument,
    db: DatabaseOption = DEFAULT_DB,
    kafka: Annotated[
        str,
        typer.Option(
            help="Run on this Kafka cluster instead of a file: HOST:PORT,…",
            metavar="BOOTSTRAP",
            envvar="PERDURE_KAFKA",
        ),
    ] = "",
    namespace: Annotated[
        str, typer.Option(help="Topic name prefix on that cluster.", envvar="PERDURE_NAMESPACE")
    ] = "dev",
    settings: SettingOption = None,
    state_dir: StateDirOption = "perdure-state",
    host: Annotated[str, typer.Option(help="Address of the app's own web app, if it has one.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port of that web app; 0 for any free port.", min=0, max=65535)
    ] = 8000,
    api_port: Annotated[
        int | None,
        typer.Option(
            help="Port of the HTTP API, on loopback; 8080 by default, or any free port.", min=0, max=65535
        ),
    ] = None,
    reload: Annotated[bool, typer.Option(help="Restart when the app's files change.")] = True,
    run_retention: RunRetentionOption = "",
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHostOption = "127.0.0.1",
    log_format: LogFormatOption = LogFormat.CONSOLE,
    log_level: LogLevelOption = LogLevel.INFO,
    traces: TracesOption = False,
) -> None:
    """Serve an app: engine, worker and HTTP API in one process, on one file or on Kafka; started
    again when you save.

    An attribute `web` of the app, an ASGI application, is served too.
    """
    from perdure.cli.lifecycle.serving import ServeOptions, serve
    from perdure.cli.options.metrics import Observing

    is_web_asked = any(
        (source := context.get_parameter_source(name)) is not None and source.name == "COMMANDLINE"
        for name in ("host", "port")
    )
    observing = Observing(metrics_port, metrics_host, log_format, log_level, has_traces=traces)
    engine = engine_settings(run_retention)
    if not kafka:
        url = database_url(db)
        if url.startswith("kafka://"):
            raise typer.BadParameter(
                f"{url} is Kafka, not a file: give --kafka HOST:PORT --namespace NAME",
                param_hint="--db (PERDURE_URL)",
            )
        serve(
            ServeOptions(
                app,
                url,
                host,
                port=port,
                is_web_asked=is_web_asked,
                is_reloaded=reload,
                observing=observing,
                api=_api_in_process(url),
                api_port=api_port,
                engine=engine,
            )
        )
        return
    from perdure.cli.options.kafka import place, url_of

    where = place(kafka, namespace, settings)
    make = _on_kafka(where, state_dir, engine)
    serve(
        ServeOptions(
            app,
            url_of(where),
            host,
            port=port,
            is_web_asked=is_web_asked,
            is_reloaded=reload,
            observing=observing,
            make=make,
            api=_api_on_kafka(where),
            api_port=api_port,
        )
    )


def _api_in_process(url: str) -> Callable[[Any, Registry], tuple[Backend, AuditTrail]]:
    def make(served: Any, registry: Registry) -> tuple[Backend, AuditTrail]:
        from perdure.cli.lifecycle.api_backends import in_process

        return in_process(served.platform, url, registry)

    return make


def _api_on_kafka(where: Place) -> Callable[[Any, Registry], tuple[Backend, AuditTrail]]:
    def make(_: Any, registry: Registry) -> tuple[Backend, AuditTrail]:
        from perdure.cli.lifecycle.api_backends import on_kafka

        return on_kafka(where, registry)

    return make


def _on_kafka(where: Place, state_dir: str, settings: Settings) -> Callable[[Registry, Report], OnKafka]:
    """Engine and worker in one process, the topics made when they are missing.

    It keeps its partitions over a restart, since it is started again with every save: so there is
    one `perdure dev` a host and namespace, and a second one ends the first.
    """

    def make(registry: Registry, report: Report) -> OnKafka:
        import socket
        from pathlib import Path

        from perdure.adapters.kafka.admin.admin import Topics
        from perdure.cli.options.kafka import OnKafka, queues_of
        from perdure.distributed import EngineOptions, WorkerOptions

        queues = queues_of(registry, None)
        topics = Topics(where.namespace, where.settings)
        topics.apply(topics.plan(queues=queues))
        name = f"dev-{socket.gethostname()}"
        engine = EngineOptions(name, Path(state_dir), is_static=True, settings=settings)
        served = OnKafka.of(
            registry, where, report, engine, WorkerOptions(queues, instance=name, is_static=True)
        )
        if not any(each.triggers for each in registry.workflows.values()):
            return served
        from perdure.distributed.ingesting import ingest_of

        return OnKafka(served.platform, ingest_of(registry, where, name, report)[0])

    return make
