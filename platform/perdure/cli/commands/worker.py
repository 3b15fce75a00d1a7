"""`perdure worker`: runs activities, on Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from perdure.cli.options.kafka import (
    ConcurrencyOption,
    GraceOption,
    InstanceOption,
    KafkaOption,
    NamespaceOption,
    OwnerOption,
    QueueOption,
    SessionOption,
    SettingOption,
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

if TYPE_CHECKING:
    from perdure.cli.options.kafka import OnKafka
    from perdure.engine.operator_log import Report
    from perdure.registry import Registry


def worker(
    app: Annotated[
        str,
        typer.Argument(
            help="The file (app.py) or module (shop.app) that defines the activities.", metavar="APP"
        ),
    ],
    kafka: KafkaOption,
    namespace: NamespaceOption,
    queue: QueueOption = None,
    concurrency: ConcurrencyOption = 200,
    settings: SettingOption = None,
    instance: InstanceOption = "",
    static: StaticOption = False,
    session_timeout_ms: SessionOption = 6_000,
    owner: OwnerOption = "",
    grace: GraceOption = 10.0,
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHostOption = "127.0.0.1",
    log_format: LogFormatOption = LogFormat.CONSOLE,
    log_level: LogLevelOption = LogLevel.INFO,
    traces: TracesOption = False,
) -> None:
    """Run an app's activities, on Kafka. On shutdown, running attempts may complete; waiting tasks
    go to other workers immediately.
    """
    from perdure.cli.lifecycle.serving import ServeOptions, serve
    from perdure.cli.options.kafka import OnKafka, place, queues_of, see_owner, url_of
    from perdure.cli.options.metrics import Observing

    where = place(kafka, namespace, settings)
    see_owner(where, owner)
    from perdure.distributed.options import WorkerOptions, unique_name
    from perdure.echo import with_echo

    def make(registry: Registry, report: Report) -> OnKafka:
        queues = queues_of(registry, queue)
        options = WorkerOptions(queues, concurrency, instance or unique_name(), static, session_timeout_ms)
        return OnKafka.of(with_echo(registry), where, report, None, options)

    observing = Observing(metrics_port, metrics_host, log_format, log_level, has_traces=traces)
    served = ServeOptions(
        app,
        url_of(where),
        observing=observing,
        make=make,
        has_web=False,
        needs_workflows=False,
        grace_s=grace,
    )
    serve(served)
