"""`perdure api`: the HTTP API of a namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from perdure.cli.kafka_options import OwnerOption, SettingOption
from perdure.cli.metrics_options import LogFormat, LogFormatOption, LogLevel, LogLevelOption, MetricsHostOption, MetricsPortOption

if TYPE_CHECKING:
    from perdure.api.backend import Backend
    from perdure.api.routing import Admission
    from perdure.cli.metrics_options import Observing
    from perdure.engine.operator_log import Report
    from perdure.observability.accepting import ConnectionLimits
    from perdure.ports.audit import AuditTrail


def api(
    app: Annotated[
        str,
        typer.Argument(
            help="The file or module whose workflows arguments are held against, before they are sent.", metavar="APP"
        ),
    ] = "",
    kafka: Annotated[
        str, typer.Option(help="Brokers to begin with, HOST:PORT,…", metavar="BOOTSTRAP", envvar="PERDURE_KAFKA")
    ] = "",
    namespace: Annotated[str, typer.Option(help="What the topics' names begin with.", envvar="PERDURE_NAMESPACE")] = "",
    settings: SettingOption = None,
    db: Annotated[str, typer.Option("--db", help="In place of Kafka: the database of a `perdure dev`.", metavar="URL")] = "",
    postgres: Annotated[
        str,
        typer.Option(
            help="Read from the tables that `perdure projector` keeps, not from Kafka.", metavar="DSN", envvar="PERDURE_POSTGRES"
        ),
    ] = "",
    host: Annotated[str, typer.Option(help="Where it listens.", envvar="PERDURE_API_HOST")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="The port on which it listens; 0 for any free one.", envvar="PERDURE_API_PORT", min=0, max=65535)
    ] = 8080,
    keys: Annotated[
        str, typer.Option(help="The file of API keys; `perdure api-keys` writes it.", metavar="FILE", envvar="PERDURE_API_KEYS")
    ] = "",
    oidc_issuer: Annotated[
        str, typer.Option(help="Take tokens of this OpenID provider.", metavar="URL", envvar="PERDURE_OIDC_ISSUER")
    ] = "",
    oidc_audience: Annotated[
        str, typer.Option(help="What tokens must be meant for.", envvar="PERDURE_OIDC_AUDIENCE")
    ] = "perdure",
    oidc_jwks: Annotated[
        str,
        typer.Option(
            help="Where the provider's keys are: a URL or a file. The provider is asked by default.",
            metavar="URL",
            envvar="PERDURE_OIDC_JWKS",
        ),
    ] = "",
    oidc_roles_claim: Annotated[
        str, typer.Option(help="Where a token has its roles.", envvar="PERDURE_OIDC_ROLES_CLAIM")
    ] = "roles",
    oidc_namespaces_claim: Annotated[
        str,
        typer.Option(help="Where it has its namespaces; empty: it holds in all.", envvar="PERDURE_OIDC_NAMESPACES_CLAIM"),
    ] = "namespaces",
    insecure: Annotated[bool, typer.Option("--insecure", help="Ask nobody who they are; on loopback only.")] = False,
    grace: Annotated[
        int, typer.Option(help="When it stops, open requests may end within so many seconds.", envvar="PERDURE_GRACE", min=0)
    ] = 10,
    owner: OwnerOption = "",
    rate_limit: Annotated[
        float,
        typer.Option(help="Requests a second of one key or subject; 0 for no limit.", envvar="PERDURE_API_RATE_LIMIT", min=0),
    ] = 1_000.0,
    connections: Annotated[
        int, typer.Option(help="Connections in all; fewer when descriptors run short.", envvar="PERDURE_API_CONNECTIONS", min=1)
    ] = 10_000,
    connections_per_address: Annotated[
        int,
        typer.Option(
            help="Connections from one address; 0 for no limit, behind a gateway.",
            envvar="PERDURE_API_CONNECTIONS_PER_ADDRESS",
            min=0,
        ),
    ] = 1_000,
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHostOption = "127.0.0.1",
    log_format: LogFormatOption = LogFormat.CONSOLE,
    log_level: LogLevelOption = LogLevel.INFO,
) -> None:
    """Serve workflows over HTTP: start, signal, query, read, watch. /docs and /openapi.json describe it."""
    from perdure.cli.extras import require_api
    from perdure.cli.metrics_options import Observing

    if bool(kafka) == bool(db):
        raise typer.BadParameter("give --kafka, or --db", param_hint="--kafka")
    if kafka and not namespace:
        raise typer.BadParameter("on Kafka, name the namespace", param_hint="--namespace")
    require_api()
    from perdure.cli.api_backends import on_file, on_kafka
    from perdure.cli.database_option import database_url
    from perdure.cli.kafka_options import place, see_owner
    from perdure.cli.loading import load_and_register
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
            raise UsageError("--insecure asks nobody who they are: leave it out, or --keys and --oidc-issuer")
        if not is_loopback(host):
            raise UsageError(
                f"--insecure is for this machine only, and {host} can be reached from others: give --keys FILE or --oidc-issuer URL"
            )
        return Unsecured()
    if not keys and not issuer:
        raise UsageError(
            "who may use this API? Give --keys FILE (`perdure api-keys create NAME --namespace …` makes one) or --oidc-issuer URL; "
            "on this machine only, --insecure asks nobody"
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
    from perdure.cli.signals import LostThread, stop_on_signal
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
    described = f"{server.url}/docs describes it, {server.url}/openapi.json to programs"
    typer.echo(f"serving {backend.namespace} at {server.url}/api/v1; {described}")
    try:
        server.run()
        lost.check()
    finally:
        server.join()
        if metrics:
            metrics.stop()
