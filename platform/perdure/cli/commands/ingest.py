"""`perdure ingest`: records of other systems start and signal workflows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from perdure.cli.options.kafka import InstanceOption, KafkaOption, NamespaceOption, OwnerOption, SettingOption
from perdure.cli.options.metrics import (
    LogFormat,
    LogFormatOption,
    LogLevel,
    LogLevelOption,
    MetricsHostOption,
    MetricsPortOption,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.engine.operator_log import Report
    from perdure.observability.observed import Observed
    from perdure.registry import Registry


def ingest(
    app: Annotated[
        str,
        typer.Argument(
            help="The file (app.py) or module (shop.app) that defines the triggers.", metavar="APP"
        ),
    ],
    kafka: KafkaOption,
    namespace: NamespaceOption,
    settings: SettingOption = None,
    begin: Annotated[
        str,
        typer.Option(
            "--from", help="Where to start reading a topic without committed offsets: earliest or latest."
        ),
    ] = "earliest",
    instance: InstanceOption = "",
    owner: OwnerOption = "",
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHostOption = "127.0.0.1",
    log_format: LogFormatOption = LogFormat.CONSOLE,
    log_level: LogLevelOption = LogLevel.INFO,
) -> None:
    """Turn the records that an app's triggers name into starts and signals, each exactly once. As
    many as you like share the partitions.
    """
    from perdure.cli.lifecycle.serving import ServeOptions, serve
    from perdure.cli.options.kafka import place, see_owner, url_of
    from perdure.cli.options.metrics import Observing

    if begin not in {"earliest", "latest"}:
        raise typer.BadParameter(f"invalid start {begin!r}: must be earliest or latest", param_hint="--from")
    where = place(kafka, namespace, settings)
    see_owner(where, owner)

    def make(registry: Registry, report: Report) -> IngestService:
        from perdure.distributed.ingesting import ingest_of
        from perdure.distributed.options import unique_name

        return IngestService(*ingest_of(registry, where, instance or unique_name(), report, begin))

    serve(
        ServeOptions(
            app,
            url_of(where),
            observing=Observing(metrics_port, metrics_host, log_format, log_level),
            make=make,
            has_web=False,
        )
    )


class IngestService:
    """`serving.Running`."""

    def __init__(self, ingest: Any, status: Any) -> None:
        self._ingest = ingest
        self._status = status

    def run_forever(self, ready: Callable[[], None]) -> None:
        """Serve until `request_stop`."""
        self._ingest.run(ready)

    def request_stop(self, grace_s: float) -> None:
        """Ask for a stop and return immediately."""
        self._ingest.request_stop()

    def observed(self) -> Observed:
        """The parts of the process that are monitored."""
        from perdure.observability.observed import Observed

        return Observed(kafka=self._status, ingest=self._ingest)
