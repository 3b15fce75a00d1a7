"""`perdure engine`: an engine on Kafka, or several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from perdure.cli.options.app import WorkflowsArgument
from perdure.cli.options.kafka import (
    GraceOption,
    InstanceOption,
    KafkaOption,
    NamespaceOption,
    OwnerOption,
    SessionOption,
    SettingOption,
    StateDirOption,
    StaticOption,
)
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
    from perdure.cli.options.kafka import OnKafka
    from perdure.engine.operator_log import Report
    from perdure.registry import Registry


def engine(
    app: WorkflowsArgument,
    kafka: KafkaOption,
    namespace: NamespaceOption,
    settings: SettingOption = None,
    processes: Annotated[
        int,
        typer.Option(
            help="Number of engine processes; one per core is recommended.", envvar="PERDURE_PROCESSES", min=1
        ),
    ] = 1,
    state_dir: StateDirOption = "perdure-state",
    instance: InstanceOption = "",
    static: StaticOption = False,
    owner: OwnerOption = "",
    protocol: Annotated[
        str, typer.Option(help="Group protocol of the engines: classic, or consumer (KIP-848).")
    ] = "classic",
    session_timeout_ms: SessionOption = 6_000,
    run_retention: RunRetentionOption = "",
    grace: GraceOption = 10.0,
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHostOption = "127.0.0.1",
    log_format: LogFormatOption = LogFormat.CONSOLE,
    log_level: LogLevelOption = LogLevel.INFO,
    traces: TracesOption = False,
) -> None:
    """Run an app's workflows, and its steps, on Kafka. Activities are for `perdure worker`."""
    from pathlib import Path

    from perdure.cli.lifecycle.processes import run_several
    from perdure.cli.options.kafka import OnKafka, place, see_owner, url_of
    from perdure.cli.options.metrics import Observing

    if protocol not in {"classic", "consumer"}:
        raise typer.BadParameter(
            f"invalid protocol {protocol!r}: must be classic or consumer", param_hint="--protocol"
        )
    where = place(kafka, namespace, settings)
    see_owner(where, owner)
    observing = Observing(metrics_port, metrics_host, log_format, log_level, has_traces=traces)
    if processes > 1:
        observing.begin_log()
        run_several(processes, instance, metrics_port)
        return
    from perdure.cli.lifecycle.serving import ServeOptions, serve
    from perdure.distributed.options import EngineOptions, unique_name
    from perdure.echo import with_echo

    options = EngineOptions(
        instance or unique_name(),
        Path(state_dir),
        "consumer" if protocol == "consumer" else "classic",
        static,
        session_timeout_ms,
        engine_settings(run_retention),
    )

    def make(registry: Registry, report: Report) -> OnKafka:
        return OnKafka.of(with_echo(registry), where, report, options, None)

    serve(ServeOptions(app, url_of(where), observing=observing, make=make, has_web=False, grace_s=grace))
