"""`perdure api`: the HTTP API of a namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from perdure.cli.options.admission import (
    InsecureOption,
    KeysOption,
    OidcAudienceOption,
    OidcIssuerOption,
    OidcJwksOption,
    OidcNamespacesClaimOption,
    OidcRolesClaimOption,
    RateLimitOption,
)
from perdure.cli.options.kafka import KafkaOption, NamespaceOption, OwnerOption, SettingOption
from perdure.cli.options.metrics import (
    LogFormat,
    LogFormatOption,
    LogLevel,
    LogLevelOption,
    MetricsHostOption,
    MetricsPortOption,
)

if TYPE_CHECKING:
    from perdure.api.backend import Backend
    from perdure.api.routing import Admission
    from perdure.cli.options.metrics import Observing
    from perdure.observability.accepting import ConnectionLimits
    from perdure.ports.audit import AuditTrail


def api(
    app: Annotated[
        str,
        typer.Argument(
            help="App (file or module) whose signatures are used to validate arguments before sending.",
            metavar="APP",
        ),
    ] = "",
    kafka: KafkaOption = "",
    namespace: NamespaceOption = "",
    settings: SettingOption = None,
    db: Annotated[
        str, typer.Option("--db", help="Database of a `perdure dev`, instead of Kafka.", metavar="URL")
    ] = "",
    postgres: Annotated[
        str,
        typer.Option(
            help="Read from the tables written by `perdure projector`, not from Kafka.",
            metavar="DSN",
            envvar="PERDURE_POSTGRES",
        ),
    ] = "",
    host: Annotated[str, typer.Option(help="Address to listen on.", envvar="PERDURE_API_HOST")] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            help="Port to listen on; 0 for any free port.", envvar="PERDURE_API_PORT", min=0, max=65535
        ),
    ] = 8080,
    keys: KeysOption = "",
    oidc_issuer: OidcIssuerOption = "",
    oidc_audience: OidcAudienceOption = "perdure",
    oidc_jwks: OidcJwksOption = "",
    oidc_roles_claim: OidcRolesClaimOption = "roles",
    oidc_namespaces_claim: OidcNamespacesClaimOption = "namespaces",
    insecure: InsecureOption = False,
    grace: Annotated[
        int,
        typer.Option(
            help="On shutdown, seconds that open requests get to complete.", envvar="PERDURE_GRACE", min=0
        ),
    ] = 10,
    owner: OwnerOption = "",
    rate_limit: RateLimitOption = 1_000.0,
    connections: Annotated[
        int,
        typer.Option(
            help="Maximum number of connections; lowered if file descriptors are scarce.",
            envvar="PERDURE_API_CONNECTIONS",
            min=1,
        ),
    ] = 10_000,
    connections_per_address: Annotated[
        int,
        typer.Option(
            help="Maximum number of connections per address; 0 for no limit, behind a gateway.",
            envvar="PERDURE_API_CONNECTIONS_PER_ADDRESS",
            min=0,
        ),
    ] = 1_000,
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHostOption = "127.0.0.1",
    log_format: LogFormatOption = LogFormat.CONSOLE,
    log_level: LogLevelOption = LogLevel.INFO,
) -> None:
    """Serve workflows over HTTP: start, signal, query, read, watch. /docs and /openapi.json
    describe it.
    """
    from perdure.cli.extras import require_api
    from perdure.cli.options.metrics import Observing

    if bool(kafka) == bool(db):
        raise typer.BadParameter("give --kafka, or --db", param_hint="--kafka")
    if kafka and not namespace:
        raise typer.BadParameter("on Kafka, name the namespace", param_hint="--namespace")
    require_api()
    from perdure.cli.lifecycle.admission import admission
    from perdure.cli.lifecycle.api_backends import on_file, on_kafka
    from perdure.cli.loading import load_and_register
    from perdure.cli.options.database import database_url
    from perdure.cli.options.kafka import place, see_owner
    from perdure.observability.accepting import ConnectionLimits, raise_descriptor_limit

    observing = Observing(metrics_port, metrics_host, log_format, log_level)
    observing.begin()
    raise_descriptor_limit()
    report = observing.report("perdure.api")
    security = admission(
        namespace or "dev",
        host,
        keys,
        (oidc_issuer, oidc_audience, oidc_roles_claim, oidc_namespaces_claim),
        oidc_jwks,
        report,
        is_insecure=insecure,
    )
    where = place(kafka, namespace, settings) if kafka else None
    if where:
        see_owner(where, owner)
    registry = load_and_register(app)[1] if app else None
    backend, trail = on_kafka(where, registry, postgres) if where else on_file(database_url(db), registry)
    limits = ConnectionLimits(connections, connections_per_address)
    _serve(backend, trail, security, host, port, grace, observing, limits=limits, rate_limit=rate_limit)


def _serve(
    backend: Backend,
    trail: AuditTrail,
    security: Admission,
    host: str,
    port: int,
    grace: int,
    observing: Observing,
    *,
    limits: ConnectionLimits,
    rate_limit: float,
) -> None:
    from perdure.api.app import create_app
    from perdure.api.audit import AuditLog
    from perdure.api.measures import Measures
    from perdure.api.server import ApiServer
    from perdure.cli.lifecycle.signals import LostThread, stop_on_signal
    from perdure.observability.observed import Observed

    measures = Measures()
    app = create_app(backend, security, AuditLog(trail), measures=measures, rate_limit=rate_limit)
    server = ApiServer(app, host, port, grace_s=grace, limits=limits)
    measures.watch(server.acceptor)
    metrics = observing.server(Observed(api=measures))

    stop_on_signal(server.stop)
    lost = LostThread(server.stop, grace)
    if metrics:
        metrics.start()
    described = f"{server.url}/docs and {server.url}/openapi.json describe it"
    typer.echo(f"serving {backend.namespace} at {server.url}/api/v1; {described}")
    try:
        server.run()
        lost.check()
    finally:
        server.join()
        if metrics:
            metrics.stop()
