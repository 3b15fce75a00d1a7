"""Monitoring options that `dev`, `engine` and `worker` share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from perdure.engine.operator_log import Report
    from perdure.observability.observed import Observed
    from perdure.observability.server import ObservabilityServer


class LogFormat(StrEnum):
    """Format of the log."""

    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    """Minimum level of log lines."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


MetricsPortOption = Annotated[
    int | None,
    typer.Option(
        help="Port for /metrics, /health/live and /health/ready; 0 for any free port. Not served by default.",
        envvar="PERDURE_METRICS_PORT",
        min=0,
        max=65535,
    ),
]
MetricsHostOption = Annotated[
    str,
    typer.Option(
        help="Address of these; 0.0.0.0 to be reachable from other machines.", envvar="PERDURE_METRICS_HOST"
    ),
]
LogFormatOption = Annotated[
    LogFormat,
    typer.Option(help="Log format: text, or one JSON object per line.", envvar="PERDURE_LOG_FORMAT"),
]
LogLevelOption = Annotated[
    LogLevel, typer.Option(help="Minimum level of log lines.", envvar="PERDURE_LOG_LEVEL")
]
TracesOption = Annotated[
    bool,
    typer.Option(
        "--traces",
        help="Export traces by OTLP, configured by OpenTelemetry's variables (OTEL_EXPORTER_OTLP_ENDPOINT, "
        "…); needs 'perdure[otel]'.",
        envvar="PERDURE_TRACES",
    ),
]


def say(message: str) -> None:
    """Write a line to standard error, in the format of the process's log."""
    from perdure.observability.logs import announce

    if not announce(message):
        typer.echo(message, err=True)


@dataclass(frozen=True)
class Observing:
    """Monitoring options.

    Attributes:
        port: the port of metrics and health; 0: any free one; None: not served.
        host: the host of metrics and health.
        log_format: the format of the process's log.
        log_level: the minimum level of its lines.
        has_traces: whether traces are sent.
    """

    port: int | None = None
    host: str = "127.0.0.1"
    log_format: LogFormat = LogFormat.CONSOLE
    log_level: LogLevel = LogLevel.INFO
    has_traces: bool = False

    def begin(self) -> None:
        """Set up logging for the whole process, and tracing if requested.

        Raises:
            UsageError: OpenTelemetry is not installed.
        """
        self.begin_log()
        if self.has_traces:
            from perdure.observability.traces import export

            export("perdure")

    def begin_log(self) -> None:
        """Set up logging for the whole process."""
        from logging import getLevelNamesMapping

        from perdure.observability.logs import configure

        configure(
            is_json=self.log_format is LogFormat.JSON, level=getLevelNamesMapping()[self.log_level.upper()]
        )

    def report(self, name: str) -> Report:
        """The callback for operator messages: writes them to the log, with this name."""
        from perdure.observability.logs import report_to

        return report_to(name)

    def server(self, observed: Observed) -> ObservabilityServer | None:
        """The requested server, listening but not started; None: not requested.

        Raises:
            InfrastructureError: the port is taken.
        """
        if self.port is None:
            return None
        from perdure.observability.server import ObservabilityServer

        return ObservabilityServer(observed, self.host, self.port)
