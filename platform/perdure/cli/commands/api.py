"""`perdure api`: the HTTP API of a namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

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
    from perdure.engine.operator_log import Report
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
    keys: Annotated[
        str,
        typer.Option(
            help="File of API keys, as written by `perdure api-keys`.",
            metavar="FILE",
            envvar="PERDURE_API_KEYS",
        ),
    ] = "",
    oidc_issuer: Annotated[
        str,
        typer.Option(
            help="Accept tokens of this OpenID provider (issuer URL).",
            metavar="URL",
            envvar="PERDURE_OIDC_ISSUER",
        ),
    ] = "",
    oidc_audience: Annotated[
        str, typer.Option(help="Audience that tokens must have.", envvar="PERDURE_OIDC_AUDIENCE")
    ] = "perdure",
    oidc_jwks: Annotated[
        str,
        typer.Option(
            help="URL or file of the provider's keys (JWKS). Discovered from the provider by default.",
            metavar="URL",
            envvar="PERDURE_OIDC_JWKS",
        ),
    ] = "",
    oidc_roles_claim: Annotated[
        str, typer.Option(help="Claim with the roles.", envvar="PERDURE_OIDC_ROLES_CLAIM")
    ] = "roles",
    oidc_namespaces_claim: Annotated[
        str,
        typer.Option(
            help="Claim with the namespaces; empty: tokens are valid in all namespaces.",
            envvar="PERDURE_OIDC_NAMESPACES_CLAIM",
        ),
    ] = "namespaces",
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Disable authentication (loopback only).")
    ] = False,
    grace: Annotated[
        int,
        typer.Option(
            help="On shutdown, seconds that open requests get to complete.", envvar="PERDURE_GRACE", min=0
        ),
    ] = 10,
    owner: OwnerOption = "",
    rate_limit: Annotated[
        float,
        typer.Option(
            help="Requests per second of one key or subject; 0 for no limit.",
            envvar="PERDURE_API_RATE_LIMIT",
            min=0,
        ),
    ] = 1_000.0,
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
    from perdure.cli.lifecycle.api_backends import on_file, on_kafka
    from perdure.cli.loading import load_and_register
    from perdure.cli.options.database import database_url
    from perdure.cli.options.kafka import place, see_owner
    from perdure.observability.accepting import ConnectionLimits, raise_descriptor_limit

    observing = Observing(metrics_port, metrics_host, log_format, log_level)
    observing.begin()
    raise_descriptor_limit()
    report = observing.report("perdure.api")
    security = _security(
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


def _security(
    namespace: str,
    host: str,
    keys: str,
    provider: tuple[str, str, str, str],
    jwks: str,
    report: Report,
    *,
    is_insecure: bool,
) -> Admission:
    from pathlib import Path

    from perdure.api.auth.api_keys import ApiKeys
    from perdure.api.auth.key_sets import KeySet, of_file, of_issuer, of_url
    from perdure.api.auth.origin_check import is_loopback
    from perdure.api.auth.security import Security, Unsecured
    from perdure.api.auth.tokens import Provider, Tokens
    from perdure.errors import UsageError

    issuer = provider[0]
    if is_insecure:
        if keys or issuer:
            raise UsageError("--insecure disables authentication: omit it, or omit --keys and --oidc-issuer")
        if not is_loopback(host):
            raise UsageError(
                f"--insecure is for loopback only, but {host} is reachable from other machines: give --keys "
                "FILE or --oidc-issuer URL"
            )
        return Unsecured()
    if not keys and not issuer:
        raise UsageError(
            "no authentication is configured: give --keys FILE (`perdure api-keys create NAME --namespace "
            "…` makes one) or --oidc-issuer URL; "
            "on loopback, --insecure disables authentication"
        )
    tokens = None
    if issuer:
        fetch = of_issuer(issuer) if not jwks else of_url(jwks) if "://" in jwks else of_file(Path(jwks))
        tokens = Tokens(Provider(*provider), KeySet(fetch, report))
    return Security(namespace, api_keys=ApiKeys(Path(keys), report) if keys else None, tokens=tokens)


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
