"""`perdure codec serve`: decodes payloads for those who have no keys."""

from __future__ import annotations

from typing import Annotated

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
from perdure.cli.options.app import WorkflowsArgument
from perdure.cli.options.metrics import (
    LogFormat,
    LogFormatOption,
    LogLevel,
    LogLevelOption,
    MetricsHostOption,
    MetricsPortOption,
)
from perdure.cli.tree import group

commands = group("Decode payloads for those who have no keys.")


@commands.callback()
def codec() -> None:
    """Decode payloads for those who have no keys."""


@commands.command()
def serve(
    app: WorkflowsArgument,
    namespace: Annotated[
        str, typer.Option(help="Namespace that API keys and tokens must be for.", envvar="PERDURE_NAMESPACE")
    ] = "dev",
    host: Annotated[
        str, typer.Option(help="Address to listen on.", envvar="PERDURE_CODEC_HOST")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            help="Port to listen on; 0 for any free port.", envvar="PERDURE_CODEC_PORT", min=0, max=65535
        ),
    ] = 8082,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            help="Site whose pages may call it: https://perdure.shop.example. May be repeated.",
            metavar="ORIGIN",
        ),
    ] = None,
    keys: KeysOption = "",
    oidc_issuer: OidcIssuerOption = "",
    oidc_audience: OidcAudienceOption = "perdure",
    oidc_jwks: OidcJwksOption = "",
    oidc_roles_claim: OidcRolesClaimOption = "roles",
    oidc_namespaces_claim: OidcNamespacesClaimOption = "namespaces",
    insecure: InsecureOption = False,
    rate_limit: RateLimitOption = 1_000.0,
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHostOption = "127.0.0.1",
    log_format: LogFormatOption = LogFormat.CONSOLE,
    log_level: LogLevelOption = LogLevel.INFO,
) -> None:
    """Serve a codec endpoint: POST /decode and /encode use the codec and the store of the app.

    Readers may decode, operators may encode.
    """
    from perdure.cli.extras import require_api
    from perdure.cli.options.app import app_named
    from perdure.cli.options.metrics import Observing
    from perdure.errors import UsageError

    require_api()
    from perdure.api.codec_server import create_codec_app
    from perdure.api.measures import Measures
    from perdure.api.server import ApiServer
    from perdure.cli.lifecycle.admission import admission
    from perdure.cli.lifecycle.signals import stop_on_signal
    from perdure.codec.payloads import JsonPayloads
    from perdure.observability.observed import Observed

    origins = [_origin(each) for each in cors_origin or ()]
    if origins and insecure:
        raise UsageError(
            "--insecure admits no pages of other sites: with --cors-origin give --keys FILE or "
            "--oidc-issuer URL"
        )
    payloads = JsonPayloads.of(app_named(app))
    if not payloads.wraps:
        raise UsageError(f"{app} says no codec and no store of large payloads: there is nothing to decode")
    observing = Observing(metrics_port, metrics_host, log_format, log_level)
    provider = oidc_issuer, oidc_audience, oidc_roles_claim, oidc_namespaces_claim
    security = admission(
        namespace, host, keys, provider, oidc_jwks, observing.report("perdure.codec"), is_insecure=insecure
    )
    observing.begin()
    measures = Measures()
    served = create_codec_app(payloads, security, origins=origins, measures=measures, rate_limit=rate_limit)
    server = ApiServer(served, host, port)
    measures.watch(server.acceptor)
    metrics = observing.server(Observed(api=measures))
    stop_on_signal(server.stop)
    if metrics:
        metrics.start()
    typer.echo(f"serving the codec of {app} at {server.url}: POST /decode, POST /encode")
    try:
        server.run()
    finally:
        server.join()
        if metrics:
            metrics.stop()


def _origin(text: str) -> str:
    """A web origin as browsers write it; one that does not match would never be allowed."""
    from urllib.parse import urlsplit

    from perdure.errors import UsageError

    try:
        parts = urlsplit(text)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        is_good = is_good and text == f"{parts.scheme}://{parts.netloc}" and not set(text) & {"@", "*"}
    except ValueError:
        is_good = False
    if not is_good:
        raise UsageError(
            f"--cors-origin {text!r} is no origin: write a scheme, a host and perhaps a port, as "
            "https://perdure.shop.example, without a path"
        )
    return text.lower()
